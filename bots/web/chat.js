const messages = document.querySelector("#messages");
const text = document.querySelector("#text");
const cards = new Map();

function atEnd() { return messages.scrollHeight - messages.scrollTop - messages.clientHeight < 120; }
function add(node) {
  const follow = atEnd();
  messages.append(node);
  if (follow) messages.scrollTop = messages.scrollHeight;
}
function bubble(words, kind) {
  const node = document.createElement("article");
  node.className = kind;
  node.textContent = words;
  add(node);
  return node;
}
function ask(words, choices) {
  const node = bubble(words, "bot");
  const row = document.createElement("div");
  row.className = "buttons";
  row.append(...choices.map((one) => {
    const press = document.createElement("button");
    press.type = "button";
    press.textContent = one.label;
    press.addEventListener("click", async () => {
      const [action, id] = one.id.split(":");
      try {
        const answer = await call(`/api/proposals/${id}/${action}`, { method: "POST" });
        row.remove();
        bubble(answer.text, "bot");
      } catch (error) { bubble(error.message, "bot sorry"); }
    });
    return press;
  }));
  if (choices.length) node.append(row);
  messages.scrollTop = messages.scrollHeight;
}

async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { headers: { "Content-Type": "application/json" }, ...options });
  } catch { throw new Error("Drawqueue cannot be reached just now. Please try again."); }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.error || "That did not work.");
  return body;
}

function show(job) {
  let node = cards.get(job.id);
  if (node && node.version > job.version) return;
  const follow = atEnd();
  if (!node) {
    node = document.querySelector("#card").content.firstElementChild.cloneNode(true);
    node.dataset.id = job.id;
    cards.set(job.id, node);
    messages.append(node);
  }
  node.version = job.version;
  node.dataset.status = job.status;
  const part = (name) => node.querySelector(name);
  part(".prompt").textContent = `#${job.id} ${job.prompt}`;
  const ready = job.eta_seconds > 60 && new Date(Date.now() + job.eta_seconds * 1000);
  const moment = ready && ready.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  part(".status").textContent = job.card.status + (moment ? ` · ready about ${moment}` : "");
  part(".details").textContent = job.card.details;
  part(".notice").textContent = job.card.notice;
  part(".notice").hidden = !job.card.notice;
  part("progress").hidden = job.status !== "generating";
  part("progress").value = job.progress;
  const pictures = part(".pictures");
  const wanted = job.status === "done" ? job.results : [];
  if (pictures.dataset.shown !== String(wanted.map((one) => one.url))) {
    pictures.dataset.shown = String(wanted.map((one) => one.url));
    pictures.classList.toggle("several", wanted.length > 1);
    pictures.replaceChildren(...wanted.map((one) => {
      const open = document.createElement("button");
      const image = document.createElement("img");
      Object.assign(image, { src: one.url, alt: one.alt, width: one.width, height: one.height });
      image.addEventListener("load", () => { if (follow) messages.scrollTop = messages.scrollHeight; });
      open.type = "button";
      open.append(image);
      open.addEventListener("click", () => enlarge(one));
      return open;
    }));
  }
  const labels = String(job.card.buttons.map((one) => one.action));
  const buttons = part(".buttons");
  if (buttons.dataset.shown !== labels) {
    buttons.dataset.shown = labels;
    buttons.replaceChildren(...job.card.buttons.map((one) => {
      const press = document.createElement("button");
      press.type = "button";
      press.textContent = one.label;
      press.addEventListener("click", async () => {
        press.disabled = true;
        try {
          const method = { cancel: "DELETE", why: "GET" }[one.action] || "POST";
          const answer = await call(`/api/jobs/${job.id}` + (method === "DELETE" ? "" : `/${one.action}`), { method });
          if (answer.text) bubble(answer.text, "bot"); else show(answer);
        } catch (error) { bubble(error.message, "bot sorry"); }
        press.disabled = false;
      });
      return press;
    }));
  }
  if (follow) messages.scrollTop = messages.scrollHeight;
}

function enlarge(one) {
  const dialog = document.querySelector("#large");
  const image = dialog.querySelector("img");
  image.src = one.url;
  image.alt = one.alt;
  dialog.showModal();
}
document.querySelector("#large").addEventListener("click", (click) => {
  if (click.target.tagName !== "IMG") click.currentTarget.close();
});

async function say(words) {
  bubble(words, "mine");
  try {
    const answer = await call("/api/chat", { method: "POST", body: JSON.stringify({ text: words, event: [...crypto.getRandomValues(new Uint32Array(3))].join("-") }) });
    if (answer.text) ask(answer.text, answer.buttons);
    if (answer.job) {
      if (answer.fresh && cards.has(answer.job.id)) add(cards.get(answer.job.id));
      show(answer.job);
    }
  } catch (error) { bubble(error.message, "bot sorry"); }
}

document.querySelector("#say").addEventListener("submit", (submit) => {
  submit.preventDefault();
  const words = text.value.trim();
  if (!words) return;
  text.value = "";
  say(words);
});
text.addEventListener("keydown", (key) => {
  if (key.key === "Enter" && !key.shiftKey && !key.isComposing) {
    key.preventDefault();
    document.querySelector("#say").requestSubmit();
  }
});
document.querySelector(".example").addEventListener("click", (click) => say(click.target.textContent));

const source = new EventSource("/api/events");
source.addEventListener("update", (event) => show(JSON.parse(event.data)));
source.addEventListener("error", () => { document.querySelector("#busy").textContent = "reconnecting…"; });
async function busy() {
  try {
    const now = await call("/api/queue");
    const workers = now.workers ? `${now.workers} at work` : "no worker is on line";
    document.querySelector("#busy").textContent = `${now.queued} queued · ${now.generating} generating · ${workers}`;
  } catch { /* the next round tells */ }
}
busy();
setInterval(busy, 4000);

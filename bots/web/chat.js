const messages = document.querySelector("#messages");
const text = document.querySelector("#text");
const source = new EventSource("/api/events");
const cards = new Map();

// Where things stand: a card by its number, a line after the newest card of its moment, what was
// made or shown by a line below that line. Until the stream has said `hello`, all that is last.
let newest = Infinity;
const asked = new Map();
function placeOf(id) {
  const line = asked.get(id);
  return line ? [line.after, line.number, id] : [id, 0, 0];
}
function put(node, place) {
  if (String(node.place) === String(place)) return;
  node.remove();
  node.place = place;
  const later = (other) => other.place && (other.place[0] - place[0] || other.place[1] - place[1] || other.place[2] - place[2]) > 0;
  let next = null;
  for (let one = messages.lastElementChild; one && later(one); one = one.previousElementSibling) next = one;
  messages.insertBefore(node, next);
}

// The end stays in sight where it was, also when a phone's keyboard takes half of the room. Who
// scrolls up is left in peace; what grows below them is not their scrolling.
let following = true;
let scrolled = 0;
function toEnd() {
  following = true;
  messages.scrollTop = messages.scrollHeight;
}
function follow() { if (following) toEnd(); }
messages.addEventListener("scroll", () => {
  const atEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 120;
  if (atEnd || messages.scrollTop < scrolled) following = atEnd;
  scrolled = messages.scrollTop;
});
new ResizeObserver(follow).observe(messages);

// What was said, kept for this tab and this person over a reload.
const KEPT = "drawqueue", MOST = 100;
let lines = [];
let user = "";
let before = { lines: [] };
try { before = JSON.parse(sessionStorage.getItem(KEPT)) || before; } catch { /* nothing is kept */ }
let count = Math.max(0, ...before.lines.map((line) => line.number));
function keep() {
  lines = lines.slice(-MOST);
  if (!user) return;
  try { sessionStorage.setItem(KEPT, JSON.stringify({ user, lines })); } catch { /* it is a convenience */ }
}
source.addEventListener("hello", (event) => {
  const told = JSON.parse(event.data);
  if (user && user !== told.user) return location.reload();
  if (user) return;
  user = told.user;
  newest = told.newest;
  const fresh = lines;
  // Another person's, or of a house that has begun anew, stays unseen.
  const known = before.user === user && before.lines.every((line) => line.after <= newest);
  lines = known ? [...before.lines, ...fresh] : fresh;
  for (const line of fresh) line.after = newest;
  for (const line of lines) {
    draw(line);
    for (const id of line.jobs || []) anchor(id, line);
    if (line.open && !fresh.includes(line)) offer(line, "No answer came to this.");
  }
  follow();
  keep();
});

const drawn = new WeakMap();
function draw(line) {
  let node = drawn.get(line);
  if (!node) {
    node = document.createElement("article");
    node.className = line.kind;
    node.append(...marked(line.words));
    drawn.set(line, node);
    if (line.choices?.length) node.append(question(line));
  }
  put(node, [line.after, line.number, 0]);
  return node;
}
// Flags in one piece, and the numbers of cards as links to them.
function marked(words) {
  return words.split(/(--[\w-]{1,30}|#\d{1,9})/).map((part, index) => {
    if (index % 2 === 0) return part;
    const isCard = part[0] === "#";
    const node = document.createElement(isCard ? "a" : "span");
    node.textContent = part;
    if (!isCard) node.className = "flag";
    else if (cards.has(Number(part.slice(1)))) node.href = part;
    return node;
  });
}
messages.addEventListener("click", (click) => {
  const link = click.target.closest("a[href]");
  if (!link) return;
  click.preventDefault();
  const card = cards.get(Number(link.textContent.slice(1)));
  card.scrollIntoView({ block: "center" });
  card.focus({ preventScroll: true });
});

function tell(words, kind, { after = newest, choices = [], ...more } = {}) {
  const line = { number: ++count, after, words, kind, choices, ...more };
  lines.push(line);
  draw(line);
  toEnd();
  keep();
  return line;
}
function anchor(id, line) {
  asked.set(id, line);
  if (cards.has(id)) put(cards.get(id), placeOf(id));
}
function pressable(label, press) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.addEventListener("click", () => press(button));
  return button;
}
function question(line) {
  const row = document.createElement("div");
  row.className = "buttons";
  const over = (words, kind) => {
    line.choices = [];
    row.remove();
    tell(words, kind, { after: line.after });
  };
  row.append(...line.choices.map((one) => pressable(one.label, async () => {
    const [action, id] = one.id.split(":");
    for (const button of row.children) button.disabled = true;
    try {
      over((await call(`/api/proposals/${id}/${action}`, { method: "POST" })).text, "bot");
    } catch (error) {
      if (!error.lost) return over(error.message, "bot sorry");
      tell(`${error.message} Please press once more.`, "bot sorry", { after: line.after });
      for (const button of row.children) button.disabled = false;
    }
  })));
  return row;
}

async function call(path, options = {}) {
  const lost = (words) => Object.assign(new Error(words), { lost: true });
  let answer, body;
  try {
    answer = await fetch(path, { headers: { "Content-Type": "application/json" }, ...options });
  } catch { throw lost("Drawqueue cannot be reached just now."); }
  try { body = await answer.json(); } catch {
    if (answer.ok) throw lost("The answer did not arrive whole.");
    body = {};
  }
  if (answer.status >= 500) throw lost(body.error || "Drawqueue cannot answer just now.");
  if (!answer.ok) throw new Error(body.error || "That did not work.");
  return body;
}

function show(job) {
  let node = cards.get(job.id);
  if (node && node.version > job.version) return;
  if (!node) {
    node = document.querySelector("#card").content.firstElementChild.cloneNode(true);
    node.dataset.id = job.id;
    node.tabIndex = -1;
    cards.set(job.id, node);
    newest = Math.max(newest, job.id);
    put(node, placeOf(job.id));
    for (const link of messages.querySelectorAll("a:not([href])")) {
      if (link.textContent === `#${job.id}`) link.href = link.textContent;
    }
  }
  node.version = job.version;
  node.dataset.status = job.status;
  const part = (name) => node.querySelector(name);
  part(".prompt").textContent = `#${job.id} ${job.prompt}`;
  const moment = job.ready && new Date(job.ready).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
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
      const open = pressable("", () => {
        history.pushState({ url: one.url, alt: one.alt }, "");
        enlarge();
      });
      const image = document.createElement("img");
      Object.assign(image, { src: one.url, alt: one.alt, width: one.width, height: one.height });
      image.addEventListener("load", follow);
      open.append(image);
      return open;
    }));
  }
  const labels = String(job.card.buttons.map((one) => one.action));
  const buttons = part(".buttons");
  if (buttons.dataset.shown !== labels) {
    buttons.dataset.shown = labels;
    buttons.replaceChildren(...job.card.buttons.map((one) => {
      const button = pressable(one.label, async () => {
        button.disabled = true;
        try {
          const method = { cancel: "DELETE", why: "GET" }[one.action] || "POST";
          const answer = await call(`/api/jobs/${job.id}` + (method === "DELETE" ? "" : `/${one.action}`), { method });
          if (answer.text) tell(answer.text, "bot"); else show(answer);
          if (answer.id !== job.id) toEnd(); else follow();
        } catch (error) { tell(error.message, "bot sorry"); }
        button.disabled = false;
      });
      if (one.action === "retry" && job.status === "done") button.title = "Draw the same again";
      return button;
    }));
  }
}

// The large picture is a step in the browser's history, so that Back closes it.
const large = document.querySelector("#large");
function enlarge() {
  const { url, alt } = history.state || {};
  if (!url) return large.close();
  Object.assign(large.querySelector("img"), { src: url, alt });
  if (!large.open) large.showModal();
}
window.addEventListener("popstate", enlarge);
large.addEventListener("close", () => { if (history.state?.url) history.back(); });
large.addEventListener("click", (click) => { if (click.target.tagName !== "IMG") large.close(); });
enlarge();

function say(words) {
  // The same event though it is sent again: whatever arrived twice is done once.
  const event = [...crypto.getRandomValues(new Uint32Array(3))].join("-");
  send(tell(words, "mine", { event, open: true }));
}
async function send(line) {
  try {
    const answer = await call("/api/chat", { method: "POST", body: JSON.stringify({ text: line.words, event: line.event }) });
    line.open = false;
    if (answer.text) tell(answer.text, "bot", { after: line.after, choices: answer.buttons });
    if (answer.fresh) {
      line.jobs = [answer.job.id, ...answer.also];
      for (const id of line.jobs) anchor(id, line);
    }
    if (answer.job) show(answer.job);
    if (answer.fresh) toEnd(); else follow();
  } catch (error) {
    line.open = Boolean(error.lost);
    if (error.lost) offer(line, error.message);
    else tell(error.message, "bot sorry", { after: line.after });
  }
  keep();
}
function offer(line, words) {
  const row = document.createElement("div");
  row.className = "lost";
  row.append(words, pressable("Try again", () => {
    row.remove();
    send(line);
  }));
  draw(line).append(row);
  follow();
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

// However many come, they are drawn once a frame.
const news = new Map();
source.addEventListener("update", (event) => {
  const job = JSON.parse(event.data);
  if (!news.size) requestAnimationFrame(drawNews);
  news.set(job.id, job);
});
function drawNews() {
  for (const job of news.values()) show(job);
  news.clear();
  follow();
}
const state = document.querySelector("#busy");
source.addEventListener("error", () => {
  state.textContent = source.readyState === EventSource.CLOSED ? "not connected: reload this page" : "reconnecting…";
});
async function busy() {
  if (source.readyState === EventSource.CLOSED) return;
  try {
    const now = await call("/api/queue");
    const workers = now.workers === 1 ? "1 worker" : `${now.workers || "no"} ${now.workers ? "workers" : "worker"}`;
    state.textContent = `${now.queued} queued · ${now.generating} generating · ${workers}`;
  } catch { /* the next round tells */ }
}
busy();
setInterval(busy, 4000);

import { tr, trn } from "/words.js";

const messages = document.querySelector("#messages");
const form = document.querySelector("#say");
const text = document.querySelector("#text");
const source = new EventSource("/api/events");
const cards = new Map();
// The addresses of the marked pictures that somebody asked to see.
const revealed = new Set();

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

// What was said, kept for this tab and this person over a reload: nothing of a command that tells or
// takes a secret, and of none that is not known, which may be one mistyped.
const KEPT = "drawqueue", MOST = 100;
let lines = [];
let user = "";
let before = { lines: [] };
try { before = JSON.parse(sessionStorage.getItem(KEPT)) || before; } catch { /* nothing is kept */ }
let count = Math.max(0, ...before.lines.map((line) => line.number));
let harmless = new Set();
function isSecret(line) {
  const [command] = line.kind === "mine" ? line.words.trim().normalize().toLowerCase().split(/[\s@]/) : [""];
  return Boolean(line.secret) || (command[0] === "/" && !harmless.has(command.slice(1)));
}
function keep() {
  lines = lines.slice(-MOST);
  if (!user) return;
  try {
    sessionStorage.setItem(KEPT, JSON.stringify({ user, lines: lines.filter((line) => !isSecret(line)) }));
  } catch { /* it is a convenience */ }
}
source.addEventListener("hello", (event) => {
  const told = JSON.parse(event.data);
  if (user && user !== told.user) return location.reload();
  if (user) return;
  user = told.user;
  limits = told;
  harmless = new Set(told.kept);
  newest = told.newest;
  const fresh = lines;
  // Another person's, or of a house that has begun anew, stays unseen.
  const known = before.user === user && before.lines.every((line) => line.after <= newest);
  lines = known ? [...before.lines, ...fresh] : fresh;
  for (const line of fresh) line.after = newest;
  for (const line of lines) {
    draw(line);
    for (const id of line.jobs || []) anchor(id, line);
    if (line.open && !fresh.includes(line)) offer(line, tr("No answer came to this."));
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
    if (line.images?.length) node.append(thumbs(line.images));
    if (line.answers) {
      const small = document.createElement("small");
      small.append(...marked(tr("To #{number}:", { number: line.answers })));
      node.append(small);
    }
    node.append(...marked(line.words));
    drawn.set(line, node);
    if (line.choices?.length) node.append(question(line));
    if (line.menu?.length) node.append(menu(line));
  }
  put(node, [line.after, line.number, 0]);
  return node;
}
function thumbs(images) {
  const row = document.createElement("div");
  row.className = "thumbs";
  row.append(...images.map((one) => {
    // One that the browser cannot read has a name alone.
    const node = document.createElement(one.thumb ? "img" : "span");
    if (one.thumb) Object.assign(node, { src: one.thumb, alt: one.name, title: one.name });
    else node.textContent = one.name;
    // A picture of many is there to be read.
    if (one.thumb?.endsWith("/tree")) node.className = "whole";
    return node;
  }));
  return row;
}
// Flags in one piece, and the numbers of cards and brushes as links to them.
function marked(words) {
  return words.split(/(--[\w-]{1,30}|#\d{1,9}|\/paint\/\d+\.\d|\/export\/[\w-]+\.[\w-]+)/).map((part, index) => {
    if (index % 2 === 0) return part;
    const isCard = part[0] === "#", isBrush = part[0] === "/";
    const node = document.createElement(isCard || isBrush ? "a" : "span");
    node.textContent = part;
    if (isBrush) node.href = part;
    else if (!isCard) node.className = "flag";
    else if (cards.has(Number(part.slice(1)))) node.href = part;
    return node;
  });
}
messages.addEventListener("click", (click) => {
  const link = click.target.closest("a[href^='#']");
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
    tell(words, kind, { after: line.after, secret: line.secret });
  };
  row.append(...line.choices.map((one) => pressable(one.label, async () => {
    const [action, id] = one.id.split(":");
    for (const button of row.children) button.disabled = true;
    try {
      if (action === "words") return turn(line, await call(`/api/words/${id}`, { method: "POST" }), one.label);
      if (action === "newer" || action === "older") return turn(line, await call(`/api/pages/${id}/${action}`, { method: "POST" }), one.label);
      over((await call(`/api/proposals/${id}/${action}`, { method: "POST" })).text, "bot");
    } catch (error) {
      if (!error.lost && action !== "words") return over(error.message, "bot sorry");
      tell([error.message, tr("Please press once more.")].join(" "), "bot sorry", { after: line.after });
      for (const button of row.children) button.disabled = false;
    }
  })));
  return row;
}

// What an answer in words puts into its line.
function said(answer) {
  return { words: answer.text, choices: answer.buttons, menu: answer.choices, images: answer.samples.map((one) => ({ thumb: one.url, name: one.name })) };
}
// Another page in the place of the one before; whoever pressed a button stays at it.
function turn(line, answer, label) {
  Object.assign(line, said(answer));
  drawn.get(line).remove();
  drawn.delete(line);
  const buttons = [...draw(line).querySelectorAll(".buttons button")];
  // What was chosen bears a tick.
  const bare = (words) => words.replace(/^✓ /, "");
  (buttons.find((one) => bare(one.textContent) === bare(label)) || buttons[0])?.focus({ preventScroll: true });
  keep();
  follow();
}

// What may be chosen: what is answered to it takes the place of the words.
function menu(line) {
  const row = document.createElement("div");
  row.className = "buttons menu";
  row.append(...line.menu.map((one) => {
    const button = pressable(one.label, async () => {
      for (const other of row.children) other.disabled = true;
      try {
        const answer = await call("/api/choices", { method: "POST", body: JSON.stringify({ id: one.id }) });
        Object.assign(line, { words: answer.text, menu: answer.choices });
        const node = draw(line);
        node.replaceChildren(...marked(line.words));
        if (line.menu.length) node.append(menu(line));
        node.querySelector("button")?.focus({ preventScroll: true });
        follow();
        keep();
      } catch (error) {
        for (const other of row.children) other.disabled = false;
        tell(error.message, "bot sorry", { after: line.after });
      }
    });
    if (one.help) button.title = one.help;
    if (one.now) button.ariaCurrent = "true";
    return button;
  }));
  return row;
}

const AWAY = tr("Drawqueue cannot be reached just now.");
const lost = (words) => Object.assign(new Error(words), { lost: true });
async function call(path, options = {}) {
  let answer, body;
  try {
    answer = await fetch(path, { headers: { "Content-Type": "application/json" }, ...options });
  } catch { throw lost(AWAY); }
  try { body = await answer.json(); } catch {
    if (answer.ok) throw lost(tr("The answer did not arrive whole."));
    body = {};
  }
  if (answer.status >= 500) throw lost(body.error || tr("Drawqueue cannot answer just now."));
  if (!answer.ok) throw new Error(body.error || tr("That did not work."));
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
  part(".prompt").textContent = `#${job.id} ${job.original || job.prompt}`;
  part(".better").textContent = job.card.better;
  part(".better").hidden = !job.card.better;
  const moment = job.ready && new Date(job.ready).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const { status } = job.card;
  part(".status").textContent = moment ? tr("{status} · ready about {moment}", { status, moment }) : status;
  part(".details").textContent = job.card.details;
  part(".notice").textContent = job.card.notice;
  part(".notice").hidden = !job.card.notice;
  if (job.sources.length && !part(".thumbs")) {
    part(".status").before(thumbs(job.sources.map((one) => ({ thumb: one.marked ? "" : one.url, name: one.mask ? tr("What is painted anew") : tr("What it begins with") }))));
  }
  if (!job.sources.length) part(".thumbs")?.remove();
  // What is written shows how far it is by itself.
  part("progress").hidden = job.status !== "generating" || job.text !== null;
  part("progress").value = job.progress;
  written(node, job);
  const pictures = part(".pictures");
  const wanted = job.status === "done" ? job.results : [];
  if (pictures.dataset.shown !== String(wanted.map((one) => one.url))) {
    pictures.dataset.shown = String(wanted.map((one) => one.url));
    pictures.classList.toggle("several", wanted.length > 1);
    // What was seen of it stands behind the picture until that one is there.
    const behind = wanted.length === 1 ? pictures.querySelector(".sheet")?.src : "";
    pictures.replaceChildren(...wanted.map((one, index) => {
      const covered = Boolean(one.marked) && job.card.show !== "plain";
      const open = pressable("", () => {
        if (covered && !revealed.has(one.url)) return reveal();
        history.pushState({ url: one.url, alt: one.alt, of: `${job.id}.${index + 1}`, covered, paints: job.card.paints }, "");
        enlarge();
      });
      const reveal = () => {
        revealed.add(one.url);
        open.classList.remove("covered");
        open.querySelector("span").remove();
      };
      const image = document.createElement("img");
      Object.assign(image, { src: one.url, alt: one.alt, width: one.width, height: one.height });
      if (behind) image.style.background = `center / cover url("${behind}")`;
      image.addEventListener("load", () => {
        image.style.background = "";
        follow();
      });
      open.append(image);
      if (covered && !revealed.has(one.url)) {
        open.classList.add("covered");
        open.append(Object.assign(document.createElement("span"), { textContent: tr("Show") }));
      }
      return open;
    }));
  }
  preview(pictures, job);
  const labels = String(job.card.buttons.map((one) => [one.row, one.action]));
  const buttons = part(".buttons");
  if (buttons.dataset.shown !== labels) {
    buttons.dataset.shown = labels;
    const rows = new Map();
    if (wanted.length === 1) rows.set(-1, furtherOf(`${job.id}.1`, wanted[0].marked ? "" : wanted[0].url, job.card.paints));
    if (job.status === "done" && job.text) rows.set(-1, ofWords(job));
    for (const one of job.card.buttons) rows.set(one.row, [...rows.get(one.row) || [], actionOf(job, one)]);
    buttons.replaceChildren(...[...rows.values()].map((row) => {
      const node = document.createElement("div");
      node.className = "row";
      node.append(...row);
      return node;
    }));
  }
}
// What is written by now: text, in which nothing is markup, and which a browser may have selected a
// part of. What one has seen growing is not folded under their eyes.
const LONG = 900, LINES = 14;
function written(node, job) {
  const words = node.querySelector(".written"), fold = node.querySelector(".fold"), now = job.text || "";
  const growing = job.status === "generating", grown = Boolean(words.dataset.growing) && !growing;
  const known = words.firstChild?.data || "";
  if (growing) words.dataset.growing = "1";
  if (now !== known) {
    if (known && now.startsWith(known)) words.firstChild.appendData(now.slice(known.length));
    else words.replaceChildren(...now ? [now] : []);
  }
  words.hidden = !now;
  const long = !growing && (now.length > LONG || now.split("\n", LINES + 1).length > LINES);
  // A short answer is read out when it is whole; a long one waits to be gone through.
  if (grown && now && !long && !words.contains(getSelection().anchorNode)) {
    words.ariaLive = "polite";
    words.replaceChildren(now);
    delete words.dataset.growing;
  }
  words.open = growing || Boolean(words.open);
  const drawFold = () => {
    words.classList.toggle("folded", long && !words.open);
    fold.textContent = words.open ? tr("Show less") : tr("Show all");
    fold.ariaExpanded = String(words.open);
    fold.hidden = !long;
  };
  drawFold();
  fold.onclick = () => {
    words.open = !words.open;
    drawFold();
    if (!words.open) node.scrollIntoView({ block: "nearest" });
  };
}
async function copy(words, button) {
  let copied = true;
  // A page that came without https may write nothing there itself.
  try { await navigator.clipboard.writeText(words); } catch {
    const area = Object.assign(document.createElement("textarea"), { value: words, className: "hidden" });
    document.body.append(area);
    area.select();
    copied = document.execCommand("copy");
    area.remove();
    button.focus();
  }
  if (!copied) return tell(tr("Your browser lets nothing be copied here: select the words, please."), "bot sorry");
  button.textContent = tr("Copied");
  setTimeout(() => { button.textContent = tr("Copy"); }, 2000);
}
function ofWords(job) {
  const file = document.createElement("a");
  Object.assign(file, { className: "button", href: `/api/jobs/${job.id}/text`, download: "", textContent: tr("Download") });
  const row = [pressable(tr("Copy"), (button) => copy(job.text, button)), file];
  return job.type === "write" ? [...row, pressable(tr("Answer"), () => answer(job.id))] : row;
}
// The card that the next line answers.
const answers = document.querySelector("#answers");
const plainly = text.placeholder;
let answered = 0;
function answer(id) {
  answered = id;
  answers.hidden = !id;
  answers.querySelector("span").textContent = id ? tr("Answer to #{number}", { number: id }) : "";
  text.placeholder = id ? tr("What to say to it") : plainly;
  text.focus();
  follow();
}
answers.querySelector("button").addEventListener("click", () => answer(0));
// What is drawn by now, in the places and sizes of what comes: of several, each its part.
function preview(pictures, job) {
  if (pictures.dataset.shown) return;
  const { count, hires } = job.parameters, columns = Math.ceil(Math.sqrt(count)), rows = Math.ceil(count / columns);
  const images = pictures.querySelectorAll(".sheet");
  if (!job.preview) {
    if (job.status !== "done") pictures.replaceChildren();
  } else if (images.length) {
    if (images[0].getAttribute("src") !== job.preview) for (const image of images) image.src = job.preview;
  } else {
    pictures.classList.toggle("several", count > 1);
    pictures.replaceChildren(...Array.from({ length: count }, (_, index) => {
      const part = document.createElement("div"), image = document.createElement("img"), space = document.createElement("img");
      part.className = "part";
      const width = Math.round(job.parameters.width * hires), height = Math.round(job.parameters.height * hires);
      // As large as the picture that comes, so that nothing moves then.
      const empty = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"/>`;
      Object.assign(space, { width, height, alt: "", src: `data:image/svg+xml,${encodeURIComponent(empty)}` });
      space.addEventListener("load", follow);
      Object.assign(image, { className: "sheet", src: job.preview, alt: index ? "" : tr("Not finished yet: {prompt}", { prompt: job.prompt }) });
      Object.assign(image.style, {
        width: `${columns * 100}%`, height: `${rows * 100}%`,
        left: `${-100 * (index % columns)}%`, top: `${-100 * Math.floor(index / columns)}%`,
      });
      // It is gone as soon as the drawing is over, maybe before the page hears of that.
      image.addEventListener("error", () => { if (!pictures.dataset.shown) pictures.replaceChildren(); });
      part.append(space, image);
      return part;
    }));
  }
}
// Other words for what waits, typed in its card; news of the card leave what is typed alone.
async function edit(id, opener) {
  const node = cards.get(id), open = node.querySelector(".edit textarea");
  if (open) return open.focus();
  let now;
  try { now = (await call(`/api/jobs/${id}/line`)).text; } catch (error) { return tell(error.message, "bot sorry"); }
  const form = document.querySelector("#edit").content.firstElementChild.cloneNode(true);
  const area = form.querySelector("textarea"), fault = form.querySelector(".sorry");
  const close = () => {
    form.remove();
    (opener.isConnected ? opener : node).focus();
    follow();
  };
  area.value = now;
  area.addEventListener("keydown", (key) => {
    if (key.key === "Escape") close();
    if (key.key !== "Enter" || key.shiftKey || key.isComposing) return;
    key.preventDefault();
    form.requestSubmit();
  });
  form.querySelector("[type=button]").addEventListener("click", close);
  form.addEventListener("submit", async (submit) => {
    submit.preventDefault();
    const enhance = submit.submitter?.name === "enhance";
    try {
      const answer = await call(`/api/jobs/${id}`, { method: "PATCH", body: JSON.stringify({ text: area.value, enhance }) });
      show(answer);
      close();
      if (answer.id !== id) toEnd();
    } catch (error) {
      fault.textContent = error.message;
      fault.hidden = false;
      follow();
    }
  });
  node.querySelector(".prompt").after(form);
  area.focus();
  follow();
}
function actionOf(job, one) {
  if (one.action === "edit") return pressable(one.label, (button) => edit(job.id, button));
  const button = pressable(one.label, async () => {
    button.disabled = true;
    try {
      const method = { cancel: "DELETE", why: "GET" }[one.action] || "POST";
      const answer = await call(`/api/jobs/${job.id}` + (method === "DELETE" ? "" : `/${one.action}`), { method });
      const known = cards.has(answer.id);
      if (answer.text) tell(answer.text, "bot"); else show(answer);
      // What stood here already, such as a picture that was picked before.
      if (known && answer.id !== job.id) cards.get(answer.id).scrollIntoView({ block: "center" });
      else if (answer.id !== job.id) toEnd();
      else follow();
    } catch (error) { tell(error.message, "bot sorry"); }
    button.disabled = false;
  });
  // Without another seed beside it, each time is another.
  if (one.action === "retry" && job.card.buttons.some((other) => other.action === "reseed")) button.title = tr("Draw the same again");
  if (/^u\d$/.test(one.action)) button.title = tr("Picture {place} by itself", { place: one.action[1] });
  if (/^v\d$/.test(one.action)) button.title = tr("Others like picture {place}", { place: one.action[1] });
  return button;
}
// What the page itself can do with a finished picture; without an address it goes by its name.
function furtherOf(number, url, paints) {
  const paint = document.createElement("a");
  Object.assign(paint, { className: "button", href: `/paint/${number}`, textContent: tr("Paint") });
  paint.addEventListener("click", (click) => click.stopPropagation());
  return [pressable(tr("Use this"), () => {
    if (!chosen.some((one) => one.id === number)) choose({ id: number, thumb: url && `${url}/small`, name: `#${number}` });
    text.focus();
  }), ...paints ? [paint] : [], pressable(tr("Report"), () => {
    large.close();
    text.value = `/report ${number.split(".")[0]} `;
    text.focus();
  })];
}

// The large picture is a step in the browser's history, so that Back closes it. One that was marked
// is shown when somebody pressed Show since the page was loaded.
const large = document.querySelector("#large");
function enlarge() {
  const { url, alt, of, covered, paints } = history.state || {};
  if (!url || (covered && !revealed.has(url))) return large.close();
  large.querySelector(".row").replaceChildren(...of ? furtherOf(of, covered ? "" : url, paints) : []);
  Object.assign(large.querySelector("img"), { src: url, alt });
  if (!large.open) large.showModal();
}
window.addEventListener("popstate", enlarge);
large.addEventListener("close", () => { if (history.state?.url) history.back(); });
large.addEventListener("click", (click) => { if (click.target.tagName !== "IMG") large.close(); });

// Pictures that go along with the next line, in order.
const MOST_CHOSEN = 5, SIDE = 2048, THUMB = 96;
let limits = { bytes: 20e6, pixels: 50e6 };
let chosen = [];
// Whether the line goes as soon as its pictures are there.
let waiting = false;
const chips = document.querySelector("#chips"), told = document.querySelector("#told");
function hint(words) {
  told.textContent = words;
  told.hidden = !words;
  follow();
}
function choose(one) {
  hint("");
  if (chosen.length >= MOST_CHOSEN) {
    hint(trn("{n} picture is the most.", "{n} pictures are the most.", MOST_CHOSEN));
    return null;
  }
  chosen.push(one);
  one.node = document.querySelector("#chip").content.firstElementChild.cloneNode(true);
  one.node.querySelector(".away").ariaLabel = tr("Remove {name}", { name: one.name });
  one.node.querySelector(".away").addEventListener("click", () => { drop(one); text.focus(); });
  one.node.querySelector(".again").addEventListener("click", () => bring(one));
  drawChip(one, one.file ? "…" : one.name);
  chips.append(one.node);
  chips.hidden = false;
  follow();
  return one;
}
function drawChip(one, words = "") {
  const image = one.node.querySelector("img");
  image.hidden = !one.thumb;
  if (one.thumb) Object.assign(image, { src: one.thumb, alt: one.name });
  one.node.querySelector("span").textContent = words || (one.thumb ? "" : one.name);
  one.node.querySelector(".again").hidden = !one.lost;
}
function drop(one) {
  chosen = chosen.filter((other) => other !== one);
  one.node.remove();
  chips.hidden = !chosen.length;
  hint("");
  ready();
}
function ready() {
  if (!waiting || chosen.some((one) => !one.id)) return;
  waiting = false;
  form.requestSubmit();
}
async function bring(one) {
  one.lost = false;
  drawChip(one, "…");
  try {
    const blob = await prepared(one);
    drawChip(one, "0 %");
    one.id = (await upload(blob, (share) => drawChip(one, `${Math.round(share * 100)} %`))).id;
    drawChip(one);
  } catch (error) {
    one.lost = Boolean(error.lost);
    if (!chosen.includes(one)) return;
    if (one.lost) {
      waiting = false;
      drawChip(one, tr("not sent"));
      return hint(error.message);
    }
    waiting = false;
    drop(one);
    hint(`${one.name}: ${error.message}`);
  }
  if (chosen.includes(one)) ready();
}
function scaled(bitmap, side) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}
// The bytes to send: as they are, for they may hold a recipe, unless there are too many of them.
async function prepared(one) {
  const { file } = one;
  let bitmap;
  try { bitmap = await createImageBitmap(file); } catch {
    if (file.size <= limits.bytes) return file;
    throw new Error(tr("That file has {size} MB; {most} MB is the most.", { size: (file.size / 1e6).toFixed(1), most: limits.bytes / 1e6 }));
  }
  one.thumb = scaled(bitmap, THUMB).toDataURL("image/webp", 0.8);
  if (file.size <= limits.bytes && bitmap.width * bitmap.height <= limits.pixels) return file;
  let blob = file;
  for (const [side, quality] of [[SIDE, 0.92], [SIDE, 0.75], [SIDE / 2, 0.8]]) {
    const kind = file.type === "image/png" && quality > 0.9 ? "image/png" : "image/jpeg";
    blob = await new Promise((done) => scaled(bitmap, side).toBlob(done, kind, quality));
    if (blob.size <= limits.bytes) break;
  }
  return blob;
}
// fetch() does not tell how far it is.
function upload(blob, progress) {
  return new Promise((done, fail) => {
    const sent = new XMLHttpRequest();
    sent.open("POST", "/api/uploads");
    sent.responseType = "json";
    sent.setRequestHeader("Content-Type", blob.type || "application/octet-stream");
    sent.upload.addEventListener("progress", (now) => { if (now.lengthComputable && !sent.status) progress(now.loaded / now.total); });
    sent.addEventListener("error", () => fail(lost(AWAY)));
    sent.addEventListener("load", () => {
      if (sent.status === 201 && sent.response) return done(sent.response);
      const words = sent.response?.error || tr("That did not work.");
      fail(sent.status >= 500 ? lost(words) : new Error(words));
    });
    sent.send(blob);
  });
}
function add(files) {
  for (const file of files) {
    const one = choose({ file, name: file.name || tr("picture") });
    if (one) bring(one);
  }
  text.focus();
}
const file = document.querySelector("#file");
document.querySelector("#attach").addEventListener("click", () => file.click());
file.addEventListener("change", () => {
  add([...file.files]);
  file.value = "";
});
document.addEventListener("paste", (paste) => {
  const { files: held, types } = paste.clipboardData, files = [...held];
  // A table that was copied comes as words and as a picture of them.
  if (!files.length || (types.includes("text/plain") && types.includes("text/html"))) return;
  paste.preventDefault();
  add(files);
});
const isFiles = (drag) => drag.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (drag) => {
  if (!isFiles(drag)) return;
  drag.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (drag) => { if (!drag.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", (drag) => {
  document.body.classList.remove("over");
  if (!isFiles(drag)) return;
  drag.preventDefault();
  add([...drag.dataTransfer.files]);
});
enlarge();

function say(words, images = [], about = 0) {
  // The same event though it is sent again: whatever arrived twice is done once.
  const event = [...crypto.getRandomValues(new Uint32Array(3))].join("-");
  send(tell(words, "mine", { event, open: true, images, answers: about || undefined }));
}
async function send(line) {
  try {
    const answer = await call("/api/chat", { method: "POST", body: JSON.stringify({ text: line.words, event: line.event, images: (line.images || []).map((one) => one.id), answers: line.answers }) });
    line.open = false;
    line.secret = answer.private;
    if (answer.text) tell(answer.text, "bot", { ...said(answer), after: line.after, secret: line.secret });
    if (answer.fresh) {
      line.jobs = [answer.job.id, ...answer.also];
      for (const id of line.jobs) anchor(id, line);
    }
    if (answer.job) show(answer.job);
    if (answer.fresh) toEnd(); else follow();
  } catch (error) {
    line.open = Boolean(error.lost);
    if (error.lost) offer(line, error.message);
    else tell(error.message, "bot sorry", { after: line.after, secret: isSecret(line) });
  }
  keep();
}
function offer(line, words) {
  const row = document.createElement("div");
  row.className = "lost";
  row.append(words, pressable(tr("Try again"), () => {
    row.remove();
    send(line);
  }));
  draw(line).append(row);
  follow();
}

form.addEventListener("submit", (submit) => {
  submit.preventDefault();
  const words = text.value.trim();
  if (!words) return chosen.length ? hint(tr("Write what to make of it, for example: a watercolour")) : undefined;
  if (chosen.some((one) => one.lost)) return hint(tr("A picture was not sent: try again, or take it away."));
  waiting = chosen.some((one) => !one.id);
  if (waiting) return hint(tr("Goes as soon as the picture is there…"));
  const images = chosen.map(({ id, thumb, name }) => ({ id, thumb, name }));
  for (const one of [...chosen]) drop(one);
  text.value = "";
  unoffer();
  say(words, images, answered);
  if (answered) answer(0);
});
// What the line may become, below which one goes on writing: nothing is taken that nobody chose.
const offers = document.querySelector("#offers");
const OFFER_AFTER = 150;
let typing = 0, picked = -1;
function pick(index) {
  picked = index;
  [...offers.children].forEach((one, place) => one.setAttribute("aria-selected", String(place === index)));
  if (index < 0) text.removeAttribute("aria-activedescendant");
  else text.setAttribute("aria-activedescendant", offers.children[index].id);
}
function unoffer() {
  clearTimeout(typing);
  offers.replaceChildren();
  offers.hidden = true;
  pick(-1);
}
function take(words) {
  text.value = words;
  unoffer();
  text.focus();
}
text.addEventListener("input", () => {
  unoffer();
  const words = text.value;
  // Only at the end of what is written, and of something.
  if (!words.trim() || answered || text.selectionStart !== words.length) return;
  typing = setTimeout(async () => {
    let found = [];
    try { found = (await call("/api/complete", { method: "POST", body: JSON.stringify({ text: words }) })).texts; } catch { /* it is a convenience */ }
    if (text.value !== words || document.activeElement !== text) return;
    offers.replaceChildren(...found.map((one, index) => {
      const node = document.createElement("li");
      Object.assign(node, { id: `offer-${index}`, textContent: one });
      node.setAttribute("role", "option");
      // The field keeps the keyboard of a phone open.
      node.addEventListener("pointerdown", (press) => press.preventDefault());
      node.addEventListener("click", () => take(one));
      return node;
    }));
    offers.hidden = !found.length;
    pick(-1);
  }, OFFER_AFTER);
});
text.addEventListener("blur", unoffer);
text.addEventListener("keydown", (key) => {
  const number = offers.children.length;
  if (!number || key.isComposing) return;
  if (key.key === "ArrowDown" || key.key === "ArrowUp") {
    pick((picked + (key.key === "ArrowDown" ? 1 : picked < 0 ? 0 : -1) + number) % number);
  } else if (key.key === "Escape") unoffer();
  else if (key.key === "Enter" && !key.shiftKey && picked >= 0) take(offers.children[picked].textContent);
  else return;
  key.preventDefault();
  key.stopImmediatePropagation();
});
text.addEventListener("keydown", (key) => {
  if (key.key === "Enter" && !key.shiftKey && !key.isComposing) {
    key.preventDefault();
    form.requestSubmit();
  }
});
// What another page of ours gives to say; one looks at it before it goes.
const given = new URLSearchParams(location.search).get("say");
if (given) {
  text.value = given;
  history.replaceState(null, "", "/");
}
document.querySelector(".example").addEventListener("click", (click) => say(click.target.textContent));

// The page is said anew in the language that is chosen.
document.querySelector("#languages").addEventListener("click", async ({ target: { value } }) => {
  if (!value) return;
  try {
    await call("/api/chat", { method: "POST", body: JSON.stringify({ text: `/settings set language ${value}` }) });
    location.reload();
  } catch (error) {
    document.querySelector("#languages").hidePopover();
    tell(error.message, "bot sorry");
  }
});

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
  state.textContent = source.readyState === EventSource.CLOSED ? tr("not connected: reload this page") : tr("reconnecting…");
});
async function busy() {
  if (source.readyState === EventSource.CLOSED) return;
  try {
    const now = await call("/api/queue");
    const engines = now.engines.join(", ");
    const values = { queued: now.queued, generating: now.generating + now.waiting, engines };
    if (now.own) state.textContent = trn("{queued} queued · {generating} generating · {n} worker", "{queued} queued · {generating} generating · {n} workers", now.own, values) + (engines && ` · ${engines}`);
    else if (engines) state.textContent = tr("{queued} queued · {generating} generating · {engines}", values);
    else state.textContent = tr("{queued} queued · {generating} generating · no worker", values);
  } catch { /* the next round tells */ }
}
busy();
setInterval(busy, 4000);
// Before this the browser would have sent the form itself, and what was typed were lost.
form.querySelector("[type=submit]").disabled = false;

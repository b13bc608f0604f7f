import { tr, trn } from "/words.js";

const find = (name, inside = document) => inside.querySelector(name);
const main = find("main"), grid = find("#grid"), look = find("#look"), more = find("#more");
const language = document.documentElement.lang;

// What is looked for stands in the address, and so does the picture that is shown large.
const FILTERS = ["words", "type", "model", "since", "until", "tag", "favourite"];
const SHOWN = "picture";
function wanted() {
  const all = new URLSearchParams(location.search);
  return new URLSearchParams(FILTERS.filter((name) => all.get(name)).map((name) => [name, all.get(name)]));
}
function address(filters, picture = "") {
  const all = new URLSearchParams(filters);
  if (picture) all.set(SHOWN, picture);
  return `/gallery${String(all) && `?${all}`}`;
}

async function call(path, options = {}) {
  let answer, body = {};
  try {
    answer = await fetch(path, { headers: { "Content-Type": "application/json" }, ...options });
  } catch { throw new Error(tr("Drawqueue cannot be reached just now.")); }
  try { body = await answer.json(); } catch { /* it says nothing */ }
  if (!answer.ok) throw new Error(body.error || tr("That did not work."));
  return body;
}
const send = (path, method, body) => call(path, { method, body: body && JSON.stringify(body) });
function tell(node, words) {
  node.textContent = words;
  node.hidden = !words;
}

// The pictures: all that were loaded are known, those in sight alone stand in the page.

const PAGE = 40, GAP = 6, SMALLEST = 118, LARGER = 190, OVERSCAN = 2;
let items = [], next = null, loading = false, round = 0;
let columns = 3, side = 120;
const tiles = new Map();
// The numbers of those that are chosen, and whether some may be.
const chosen = new Map();
// The marked pictures that somebody asked to see.
const revealed = new Set();
const covered = (one) => one.show !== "plain" && !revealed.has(one.number);

function measure() {
  const width = grid.clientWidth;
  columns = Math.max(2, Math.floor((width + GAP) / ((width < 700 ? SMALLEST : LARGER) + GAP)));
  side = Math.floor((width - GAP * (columns - 1)) / columns);
}
function draw() {
  const step = side + GAP, rows = Math.ceil(items.length / columns);
  grid.style.height = `${Math.max(0, rows * step - GAP)}px`;
  const top = main.scrollTop - grid.offsetTop + main.offsetTop;
  const first = Math.max(0, Math.floor(top / step) - OVERSCAN) * columns;
  const last = Math.min(items.length, (Math.ceil((top + main.clientHeight) / step) + OVERSCAN) * columns);
  for (const [index, node] of tiles) {
    // Whoever stands at one keeps it.
    if ((index < first || index >= last) && !node.contains(document.activeElement)) {
      node.remove();
      tiles.delete(index);
    }
  }
  for (let index = first; index < last; index++) if (!tiles.has(index)) put(index);
  for (const [index, node] of tiles) {
    node.style.width = node.style.height = `${side}px`;
    node.style.transform = `translate(${(index % columns) * step}px, ${Math.floor(index / columns) * step}px)`;
  }
}
function put(index) {
  const one = items[index], node = find("#tile").content.firstElementChild.cloneNode(true);
  tiles.set(index, node);
  dress(node, one, index);
  // In the order in which they are read.
  const after = [...tiles.keys()].filter((other) => other > index);
  grid.insertBefore(node, after.length ? tiles.get(Math.min(...after)) : null);
}
function dress(node, one, index) {
  const image = find("img", node), opener = find(".open", node), box = find("input", node);
  node.dataset.index = index;
  node.setAttribute("aria-setsize", next === null ? items.length : -1);
  node.setAttribute("aria-posinset", index + 1);
  node.classList.toggle("covered", covered(one));
  if (one.show === "withhold") {
    image?.remove();
    opener.textContent = tr("Not shown here");
    opener.classList.add("away");
  } else {
    image.alt = `#${one.number} ${one.alt}`;
    if (image.getAttribute("src") !== one.small) image.src = one.small;
  }
  opener.ariaLabel = `#${one.number} ${one.prompt || one.alt}`;
  find(".star", node).hidden = !one.favourite;
  box.ariaLabel = tr("Choose {number}", { number: `#${one.number}` });
  box.checked = chosen.has(one.number);
}
let drawing = 0;
function redraw() {
  drawing ||= requestAnimationFrame(() => { drawing = 0; draw(); });
}
// What changed of one, wherever it stands.
function renew(number, change) {
  const index = items.findIndex((one) => one.number === number);
  if (index < 0) return;
  Object.assign(items[index], change);
  if (tiles.has(index)) dress(tiles.get(index), items[index], index);
}
function clear() {
  for (const node of tiles.values()) node.remove();
  tiles.clear();
}

async function load() {
  if (loading || next === null) return;
  loading = true;
  const mine = round;
  find("#again").hidden = true;
  more.hidden = false;
  try {
    const query = wanted();
    query.set("limit", PAGE);
    if (next) query.set("before", next);
    const page = await call(`/api/gallery?${query}`);
    if (mine !== round) return;
    items.push(...page.pictures);
    next = page.next;
    tell(find("#said"), "");
  } catch (error) {
    if (mine !== round) return;
    tell(find("#said"), error.message);
    find("#again").hidden = false;
    more.hidden = true;
    loading = false;
    return;
  }
  loading = false;
  more.hidden = next === null;
  const none = !items.length && next === null, filtered = Boolean(String(wanted()));
  find("#empty").hidden = !none || filtered;
  find("#nothing").hidden = !none || !filtered;
  find(".acts").hidden = none;
  draw();
  // Said anew where the end is still near.
  watcher.unobserve(more);
  watcher.observe(more);
}
const watcher = new IntersectionObserver((seen) => {
  if (seen.some((one) => one.isIntersecting)) load();
}, { root: main, rootMargin: "1500px" });
find("#again").addEventListener("click", load);
main.addEventListener("scroll", redraw, { passive: true });
new ResizeObserver(() => { measure(); redraw(); }).observe(grid);

// Begin anew with what stands in the address.
let asked = null;
function begin() {
  const filters = wanted();
  fill(filters);
  if (String(filters) === asked) return;
  asked = String(filters);
  round++;
  loading = false;
  next = 0;
  items = [];
  clear();
  main.scrollTop = 0;
  find("#empty").hidden = find("#nothing").hidden = true;
  find("#zip").href = `/api/gallery/zip?${filters}`;
  measure();
  watcher.observe(more);
  load();
}

// Filters

function fill(filters) {
  for (const name of FILTERS) {
    const field = look.elements[name], value = filters.get(name) || "";
    if (field.type === "checkbox") field.checked = Boolean(value);
    else if (document.activeElement !== field || field.type !== "search") {
      // One that is no longer among them, or was never.
      if (field.options && ![...field.options].some((one) => one.value === value)) field.add(new Option(value, value));
      field.value = value;
    }
    field.closest(".filter")?.classList.toggle("on", Boolean(value));
  }
  find("#clear").hidden = !String(filters);
}
function go(filters) {
  history.pushState(null, "", address(filters));
  begin();
}
function said() {
  const given = new FormData(look);
  go(new URLSearchParams(FILTERS.map((name) => [name, String(given.get(name) || "").trim()]).filter(([, value]) => value)));
}
let typing = 0;
look.addEventListener("submit", (submit) => {
  submit.preventDefault();
  clearTimeout(typing);
  said();
});
look.addEventListener("change", (change) => { if (change.target.name !== "words") said(); });
find("#words").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(said, 350);
});
for (const button of [find("#clear"), find("#nothing button")]) button.addEventListener("click", () => {
  go(new URLSearchParams());
  find("#words").value = "";
  find("#words").focus();
});

// What there is in all

function amount(bytes) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit++; }
  return new Intl.NumberFormat(language, { style: "unit", unit: units[unit], maximumFractionDigits: bytes < 10 && unit ? 1 : 0 }).format(bytes);
}
let tags = [];
async function count() {
  let told;
  try { told = await call("/api/gallery/count"); } catch { return; /* the pictures say it */ }
  const number = new Intl.NumberFormat(language).format(told.pictures);
  tell(find("#count"), trn("{number} picture, {size}", "{number} pictures, {size}", told.pictures, { number, size: amount(told.bytes) }));
  tags = told.tags;
  for (const [name, counted] of [["tag", told.tags], ["model", told.models]]) {
    const field = look.elements[name], value = wanted().get(name) || "";
    field.replaceChildren(field.options[0], ...counted.map((one) => new Option(`${one.name} (${one.pictures})`, one.name)));
    if (value && !counted.some((one) => one.name === value)) field.add(new Option(value, value));
    field.value = value;
  }
  find("#known").replaceChildren(...tags.map((one) => new Option(one.name)));
}

// Choosing several

const bar = find("#chosen"), MOST = 500;
function choosing(on) {
  document.body.classList.toggle("choosing", on);
  find("#choose").setAttribute("aria-pressed", on);
  if (!on) chosen.clear();
  drawChosen();
}
function drawChosen() {
  const numbers = [...chosen.keys()];
  bar.hidden = !document.body.classList.contains("choosing");
  find("p", bar).textContent = numbers.length ? trn("{n} picture is chosen.", "{n} pictures are chosen.", numbers.length) : tr("Choose pictures by pressing them.");
  const zip = find("a", bar);
  zip.hidden = find(".delete", bar).hidden = !numbers.length;
  zip.href = `/api/gallery/zip?ids=${numbers.join(",")}`;
  for (const [index, node] of tiles) find("input", node).checked = chosen.has(items[index].number);
}
function pick(one, on) {
  if (on && chosen.size >= MOST) {
    tell(find("#said"), tr("{most} pictures are the most at once.", { most: MOST }));
  } else if (on) chosen.set(one.number, one);
  else chosen.delete(one.number);
  if (!document.body.classList.contains("choosing")) return choosing(true);
  drawChosen();
}
find("#choose").addEventListener("click", () => choosing(!document.body.classList.contains("choosing")));
find(".done", bar).addEventListener("click", () => {
  choosing(false);
  find("#choose").focus();
});
find(".delete", bar).addEventListener("click", async () => {
  const jobs = [...new Set([...chosen.values()].map((one) => one.id))];
  const several = items.filter((one) => jobs.includes(one.id)).length;
  const words = trn("Delete {n} picture for good?", "Delete {n} pictures for good?", several);
  const beside = tr("Pictures that were drawn together are deleted together.");
  const also = tr("Their prompts go, too, and their messages in the chats say so.");
  if (!await sure(`${words} ${also}${several > chosen.size ? `\n${beside}` : ""}`)) return;
  const faults = [];
  for (const id of jobs) {
    try { await send(`/api/jobs/${id}/delete`, "POST"); gone(id); } catch (error) { faults.push(error.message); }
  }
  choosing(false);
  tell(find("#said"), faults.length ? [...new Set(faults)].join("\n") : trn("{n} picture is deleted.", "{n} pictures are deleted.", several));
  count();
});
function gone(id) {
  items = items.filter((one) => one.id !== id);
  clear();
  draw();
  if (!items.length && next === null) {
    asked = null;
    begin();
  }
}
const question = find("#sure");
function sure(words) {
  find("p", question).textContent = words;
  question.returnValue = "";
  question.showModal();
  return new Promise((done) => question.addEventListener("close", () => done(question.returnValue === "yes"), { once: true }));
}

grid.addEventListener("click", (click) => {
  const node = click.target.closest("li");
  if (!node || click.target.closest(".pick")) return;
  const one = items[node.dataset.index];
  if (!document.body.classList.contains("choosing")) return show(one.number);
  pick(one, !chosen.has(one.number));
});
grid.addEventListener("change", (change) => pick(items[change.target.closest("li").dataset.index], change.target.checked));
// Arrows go from picture to picture.
grid.addEventListener("keydown", (key) => {
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  const node = key.target.closest("li");
  if (!(key.key in steps) || !node) return;
  key.preventDefault();
  const index = Number(node.dataset.index) + steps[key.key];
  if (!items[index]) return;
  const top = grid.offsetTop - main.offsetTop + Math.floor(index / columns) * (side + GAP);
  if (top < main.scrollTop) main.scrollTop = top - GAP;
  if (top + side > main.scrollTop + main.clientHeight) main.scrollTop = top + side + GAP - main.clientHeight;
  draw();
  find(".open", tiles.get(index)).focus({ preventScroll: true });
});

// One picture, large

const large = find("#large"), stage = find(".stage", large), part = (name) => find(name, large);
let now = null, coming = null;
function show(number, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](replace ? history.state : { opened: true }, "", address(wanted(), number));
  enlarge();
}
const place = (number) => items.findIndex((one) => one.number === number);
async function enlarge() {
  const number = new URLSearchParams(location.search).get(SHOWN);
  if (!number) return large.open && large.close();
  if (now?.number === number && large.open) return;
  const [id, nth] = number.replace(/^#/, "").split(".");
  const known = items[place(number)];
  now = known || { number };
  // Of one that is not there is nothing to press.
  large.classList.toggle("unknown", !known);
  part("#title").textContent = `#${number}`;
  tell(part(".told"), "");
  if (known) picture(known);
  if (!large.open) large.showModal();
  await (coming = details(number, Number(id), Number(nth || 1) - 1));
}
async function details(number, id, index) {
  try {
    const told = await call(`/api/gallery/${id}/${index}`);
    if (now.number !== number) return;
    now = told;
    large.classList.remove("unknown");
    picture(told);
    facts(told);
  } catch (error) {
    if (now.number === number) tell(part(".told"), error.message);
  }
}
function picture(one) {
  const image = find("img", stage), hidden = one.show === "withhold";
  tell(part(".told"), "");
  image.hidden = hidden;
  image.alt = one.alt;
  image.classList.toggle("covered", covered(one));
  if (!hidden && image.getAttribute("src") !== one.url) {
    // The small one stands there until the large one has come.
    image.style.background = one.small ? `center / contain no-repeat url("${one.small}")` : "";
    image.src = one.url;
  }
  find(".away", stage).hidden = !hidden;
  find(".reveal", stage).hidden = hidden || !covered(one);
  part("#title").textContent = `#${one.number}`;
  part(".prompt").textContent = one.prompt;
  const at = place(one.number);
  find(".before", stage).hidden = at <= 0;
  find(".after", stage).hidden = at < 0 || at >= items.length - 1;
}
const date = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
function facts(one) {
  part(".details").textContent = one.details;
  const star = part(".favourite");
  star.setAttribute("aria-pressed", one.favourite);
  const links = {
    again: `/?say=${encodeURIComponent(one.line)}`, remix: `/?say=${encodeURIComponent(one.remix)}`,
    picture: one.url, recipe: `/api/gallery/${one.id}/${one.index}/recipe`, tree: `/media/${one.id}/tree`,
  };
  for (const [name, href] of Object.entries(links)) part(`.buttons .${name}`).href = href;
  part(".picture").download = `${one.number}.png`;
  part(".picture").hidden = part(".remix").hidden = one.show === "withhold";
  drawTags(one);
  drawLink(one);
  const told = {
    [tr("Drawn")]: date.format(new Date(one.created)), [tr("Size of the file")]: one.bytes && amount(one.bytes),
    [tr("Made from")]: one.parent && `#${one.parent}`, ...one.parameters,
  };
  part("dl").replaceChildren(...Object.entries(told).filter(([, value]) => value !== null && value !== "" && value !== undefined && !(Array.isArray(value) && !value.length)).flatMap(([name, value]) => {
    const term = document.createElement("dt"), fact = document.createElement("dd");
    term.textContent = name.replaceAll("_", " ");
    fact.textContent = Array.isArray(value) ? value.map((each) => [each].flat().join(" ")).join(", ") : String(value);
    return [term, fact];
  }));
}
// Do something about the picture that is shown, and say what went wrong. What there is to say of it
// may still come: it is from before, and would hide what was done.
async function act(work) {
  const one = now;
  tell(part(".told"), "");
  await coming;
  try {
    await work(now.number === one.number ? now : one);
  } catch (error) { tell(part(".told"), error.message); }
}
function keep(one, kept) {
  if (!kept) return;
  Object.assign(one, kept);
  renew(one.number, kept);
  if (now === one) facts(one);
  count();
}
const at = (one, what) => `/api/jobs/${one.id}/${one.index}/${what}`;
part(".favourite").addEventListener("click", () => act(async (one) => keep(one, await send(at(one, "favourite"), one.favourite ? "DELETE" : "POST"))));
function drawTags(one) {
  part(".tags").replaceChildren(...one.tags.map((name) => {
    const node = document.createElement("li"), away = document.createElement("button");
    Object.assign(away, { type: "button", textContent: "✕", ariaLabel: tr("Take the tag {tag} away", { tag: name }) });
    away.addEventListener("click", () => act(async () => {
      keep(one, await send(`${at(one, "tags")}?tag=${encodeURIComponent(name)}`, "DELETE"));
      part(".tag input").focus();
    }));
    node.append(name, away);
    return node;
  }));
}
part(".tag").addEventListener("submit", (submit) => {
  submit.preventDefault();
  const field = part(".tag input"), given = field.value.split(",").map((one) => one.trim()).filter(Boolean);
  if (given.length) act(async (one) => {
    keep(one, await send(at(one, "tags"), "POST", { tags: given }));
    field.value = "";
  });
});
function drawLink(one) {
  const { link } = one;
  part(".sharing").hidden = one.show !== "plain";
  part(".share").hidden = Boolean(link);
  part(".link").hidden = !link;
  if (!link) return;
  part(".link input").value = link.url;
  const until = date.format(new Date(link.until));
  part(".link p").textContent = link.prompt
    ? tr("Whoever has it sees the picture and its prompt, until {moment}.", { moment: until })
    : tr("Whoever has it sees the picture, until {moment}.", { moment: until });
}
part(".share").addEventListener("submit", (submit) => {
  submit.preventDefault();
  const given = new FormData(submit.target);
  act(async (one) => {
    one.link = await send(at(one, "share"), "POST", { prompt: given.has("prompt"), days: Number(given.get("days")) });
    drawLink(one);
    part(".link input").select();
  });
});
part(".copy").addEventListener("click", () => act(async (one) => {
  part(".link input").select();
  let words = tr("The link is copied.");
  try { await navigator.clipboard.writeText(one.link.url); } catch { words = tr("Copy it from the field, please."); }
  tell(part(".told"), words);
}));
part(".link .back").addEventListener("click", () => act(async (one) => {
  const answer = await send(at(one, "share"), "DELETE");
  one.link = null;
  drawLink(one);
  tell(part(".told"), answer.text);
  part(".share button").focus();
}));
part(".facts .delete").addEventListener("click", () => act(async (one) => {
  const words = one.of > 1
    ? tr("Delete #{id} for good? All {n} pictures that were drawn together go, and their prompt; the message in the chat says so.", { id: one.id, n: one.of })
    : tr("Delete #{id} for good? The picture and its prompt go; the message in the chat says so.", { id: one.id });
  if (!await sure(words)) return;
  const answer = await send(`/api/jobs/${one.id}/delete`, "POST");
  const from = place(one.number);
  gone(one.id);
  count();
  tell(find("#said"), answer.text);
  const beside = items[Math.min(Math.max(0, from), items.length - 1)];
  if (beside && from >= 0) show(beside.number, { replace: true }); else large.close();
}));
find(".reveal", stage).addEventListener("click", () => {
  revealed.add(now.number);
  renew(now.number, {});
  picture(now);
  part(".close").focus();
});
async function step(by) {
  const index = place(now.number) + by;
  if (index >= items.length && next !== null) await load();
  if (index < 0 || !items[index] || place(now.number) < 0) return;
  show(items[index].number, { replace: true });
  // Near the end, the next ones.
  if (items.length - index < PAGE / 2) load();
}
find(".before", stage).addEventListener("click", () => step(-1));
find(".after", stage).addEventListener("click", () => step(1));
part(".close").addEventListener("click", () => large.close());
large.addEventListener("keydown", (key) => {
  if (key.target.matches("input, select, textarea")) return;
  if (key.key === "ArrowLeft") step(-1);
  else if (key.key === "ArrowRight") step(1);
  else return;
  key.preventDefault();
});
let from = null;
stage.addEventListener("touchstart", (touch) => { from = touch.touches.length === 1 ? touch.touches[0] : null; }, { passive: true });
stage.addEventListener("touchend", (touch) => {
  if (!from) return;
  const across = touch.changedTouches[0].clientX - from.clientX, down = touch.changedTouches[0].clientY - from.clientY;
  from = null;
  if (Math.abs(across) > 50 && Math.abs(across) > 2 * Math.abs(down)) step(across > 0 ? -1 : 1);
});
large.addEventListener("close", () => {
  const index = place(now?.number);
  now = null;
  find("img", stage).removeAttribute("src");
  find("img", stage).style.background = "";
  if (new URLSearchParams(location.search).get(SHOWN)) {
    if (history.state?.opened) history.back();
    else history.replaceState(null, "", address(wanted()));
  }
  if (index < 0) return;
  // Back at the picture, wherever one went meanwhile.
  const top = grid.offsetTop - main.offsetTop + Math.floor(index / columns) * (side + GAP);
  if (top < main.scrollTop || top + side > main.scrollTop + main.clientHeight) main.scrollTop = top - side;
  draw();
  find(".open", tiles.get(index))?.focus({ preventScroll: true });
});
window.addEventListener("popstate", () => {
  begin();
  enlarge();
});
begin();
count();
enlarge();

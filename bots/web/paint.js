// Whoever paints by a link may speak another language than whom this browser is known as.
const { tr } = await import(`/words.js?language=${document.documentElement.lang}`);
const part = (id) => document.querySelector(`#${id}`);
const sheet = part("sheet"), canvas = part("brush"), ring = part("ring"), said = part("said");
const here = location.pathname;
// No model sees more, and what is sent stays small.
const MOST = 2048;
const own = { width: Number(sheet.dataset.width), height: Number(sheet.dataset.height) };
const scale = Math.min(1, MOST / Math.max(own.width, own.height));
canvas.width = Math.round(own.width * scale);
canvas.height = Math.round(own.height * scale);
const pen = canvas.getContext("2d");
part("picture").src = `${here}/picture`;
part("picture").addEventListener("error", () => tell(tr("The picture could not be loaded: reload this page."), true));
part("back").hidden = !part("back").getAttribute("href");

// As large as there is room.
function fit() {
  const room = part("stage").getBoundingClientRect();
  const share = Math.min((room.width - 26) / own.width, (room.height - 26) / own.height, 4);
  sheet.style.width = `${Math.max(40, own.width * share)}px`;
  sheet.style.height = `${Math.max(40, own.height * share)}px`;
}
new ResizeObserver(fit).observe(part("stage"));

// What was painted, stroke by stroke: undoing draws all but the last again.
let strokes = [];
let stroke = null;
let event = "", sure = false;
function anew() {
  event = "";
  sure = false;
}
function changed() {
  anew();
  part("undo").disabled = part("clear").disabled = !strokes.length;
}
function line(points, size, erase) {
  pen.globalCompositeOperation = erase ? "destination-out" : "source-over";
  pen.strokeStyle = pen.fillStyle = "#fff";
  pen.lineWidth = size;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...points[0]);
  for (const point of points) pen.lineTo(...point);
  pen.stroke();
  // A line of no length is none.
  pen.beginPath();
  pen.arc(...points[0], size / 2, 0, 2 * Math.PI);
  pen.fill();
}
function redraw() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  for (const one of strokes.slice(strokes.findLastIndex((each) => each.cleared) + 1)) line(one.points, one.size, one.erase);
}
const erasing = () => part("erase").ariaPressed === "true";
const size = () => part("size").value / 100 * Math.min(canvas.width, canvas.height);
function begin(point) {
  stroke = { size: size(), erase: erasing(), points: [] };
  strokes.push(stroke);
  go(point);
  changed();
}
function go(point) {
  const last = stroke.points.at(-1) || point;
  stroke.points.push(point);
  line([last, point], stroke.size, stroke.erase);
}
function place(pointer) {
  const box = canvas.getBoundingClientRect();
  return [(pointer.clientX - box.left) / box.width * canvas.width, (pointer.clientY - box.top) / box.height * canvas.height];
}
let spot = [canvas.width / 2, canvas.height / 2];
function mark(point) {
  spot = point;
  const shown = canvas.getBoundingClientRect().width / canvas.width;
  ring.hidden = false;
  Object.assign(ring.style, { left: `${point[0] * shown}px`, top: `${point[1] * shown}px`, width: `${size() * shown}px`, height: `${size() * shown}px` });
}
let pointer = null;
canvas.addEventListener("pointerdown", (press) => {
  // A second finger paints nothing.
  if (press.button || pointer !== null) return;
  press.preventDefault();
  canvas.focus({ preventScroll: true });
  pointer = press.pointerId;
  canvas.setPointerCapture(pointer);
  begin(place(press));
  mark(place(press));
});
canvas.addEventListener("pointermove", (move) => {
  if (pointer === null && move.pointerType === "mouse") mark(place(move));
  if (move.pointerId !== pointer) return;
  for (const one of move.getCoalescedEvents?.() || []) go(place(one));
  go(place(move));
  mark(place(move));
});
function lift(up) {
  if (up.pointerId !== pointer) return;
  pointer = stroke = null;
  if (up.pointerType !== "mouse") ring.hidden = true;
}
canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);
canvas.addEventListener("pointerleave", () => { if (pointer === null) ring.hidden = true; });
canvas.addEventListener("blur", () => { if (pointer === null) stroke = null; ring.hidden = true; });
canvas.addEventListener("keydown", (key) => {
  const step = size() / 2;
  const way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[key.key];
  if (!way && key.key !== " ") return;
  key.preventDefault();
  if (way) mark([0, 1].map((axis) => Math.min([canvas.width, canvas.height][axis], Math.max(0, spot[axis] + way[axis]))));
  else mark(spot);
  if (way && stroke) go(spot);
  if (key.key !== " " || key.repeat) return;
  if (stroke) stroke = null; else begin(spot);
});

for (const name of ["draw", "erase"]) {
  part(name).addEventListener("click", () => {
    part("draw").ariaPressed = String(name === "draw");
    part("erase").ariaPressed = String(name === "erase");
  });
}
function undo() {
  stroke = null;
  strokes.pop();
  redraw();
  changed();
}
part("undo").addEventListener("click", undo);
part("clear").addEventListener("click", () => {
  stroke = null;
  strokes.push({ cleared: true });
  redraw();
  changed();
});
document.addEventListener("keydown", (key) => {
  if (key.key === "z" && (key.ctrlKey || key.metaKey) && key.target !== part("prompt") && strokes.length) undo();
});
part("prompt").addEventListener("input", anew);
part("prompt").addEventListener("keydown", (key) => {
  if (key.key === "Enter" && !key.shiftKey && !key.isComposing) {
    key.preventDefault();
    part("paint").requestSubmit();
  }
});

// White where it was painted, black elsewhere; null where nothing was.
async function mask() {
  const image = pen.getImageData(0, 0, canvas.width, canvas.height);
  let white = 0;
  for (let at = 0; at < image.data.length; at += 4) {
    const on = image.data[at + 3] > 127 ? 255 : 0;
    image.data.set([on, on, on, 255], at);
    white += on;
  }
  if (!white) return null;
  const sent = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  sent.getContext("2d").putImageData(image, 0, 0);
  return new Promise((done) => sent.toBlob(done, "image/png"));
}
function tell(words, sorry = false) {
  said.replaceChildren(...[words].flat());
  said.className = sorry ? "sorry" : "";
  said.hidden = false;
}
async function call(path, options) {
  let answer, body = {};
  try { answer = await fetch(path, { method: "POST", ...options }); } catch {
    throw new Error(tr("Drawqueue cannot be reached just now. Press Send once more."));
  }
  try { body = await answer.json(); } catch { /* what follows says it */ }
  if (!answer.ok) throw new Error(body.error || tr("Drawqueue cannot answer just now. Press Send once more."));
  return body;
}
part("paint").addEventListener("submit", async (submit) => {
  submit.preventDefault();
  if (part("send").disabled) return;
  const blob = await mask();
  if (!blob) return tell(tr("Nothing is painted yet: paint over what shall change."), true);
  // The same event though it is sent again: whatever arrived twice is drawn once.
  event ||= [...crypto.getRandomValues(new Uint32Array(3))].join("-");
  part("send").disabled = true;
  tell(tr("Sending…"));
  try {
    const { id } = await call(`${here}/mask`, { headers: { "Content-Type": "image/png" }, body: blob });
    const words = { prompt: part("prompt").value.trim(), mask: id, event, confirm: sure };
    const made = await call(here, { headers: { "Content-Type": "application/json" }, body: JSON.stringify(words) });
    // So many were asked for that the house asks back.
    sure = Boolean(made.question);
    if (sure) tell([made.question, tr("Press Send once more to do so.")].join(" "));
    else tell(tr("#{number} is in line. It appears in the chat that you came from.", { number: made.id }));
  } catch (error) { tell(error.message, true); }
  part("send").disabled = false;
});
// Not before all of the above is there.
part("send").disabled = false;

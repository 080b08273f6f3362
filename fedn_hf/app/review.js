// The player, the timeline and the table of a review: everything that must answer at once, without asking the server.
// Gradio runs this once, with `element`, `props`, `trigger` and `watch`; what is to be shown comes as `props.value`.
const SVG = "http://www.w3.org/2000/svg";
const find = (name) => element.querySelector("." + name);
const video = find("video"), track = find("track"), body = find("rows"), note = find("note");
let scene = null, chosen = null, zoom = 1, sort = { by: "onset_s", up: true }, failed = null, end = null, count = 0;

const clock = (s, digits = 2) => {
  const whole = Math.floor(s / 60);
  const rest = (s - 60 * whole).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  return whole >= 60 ? `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}:${rest}` : `${whole}:${rest}`;
};
const kind = (event) => (event.type || "no type").replace("-expression", "");
const words = (event) =>
  `${kind(event)}, ${event.label || "no label"}${event.score == null ? "" : ", score " + event.score.toFixed(2)}`;
const make = (name, attributes = {}, text = null, space = null) => {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
};

// --- playing ---

const seek = (s) => {
  // A little after a frame begins, or players show the one before it.
  video.currentTime = Math.min(Math.max(0, s + 0.002), scene.duration_s);
  moved();
};
const step = (frames) => { video.pause(); seek(Math.round(video.currentTime * scene.fps - 0.3) / scene.fps + frames / scene.fps); };
const visible = () => {
  const wanted = { type: find("by-type").value, label: find("by-label").value, face_id: find("by-face").value };
  const lowest = parseFloat(find("by-score").value) || 0;
  return scene.events.filter((event) =>
    Object.entries(wanted).every(([name, value]) => value === "" || String(event[name] ?? "") === value) &&
    (event.score == null || event.score >= lowest));
};
const pick = (key, jump = true) => {
  const event = scene.events.find((one) => one.key === key);
  if (!event) return;
  chosen = key;
  if (jump) { video.pause(); seek(event.onset_s); }
  mark();
  trigger("pick", { key, count: ++count });
};
const next = (way) => {
  const list = visible().sort((a, b) => a.onset_s - b.onset_s);
  if (!list.length) return;
  const place = list.findIndex((one) => one.key === chosen);
  const after = list.findIndex((one) => one.onset_s > video.currentTime);
  const from = place >= 0 ? place + way : way > 0 ? after : (after < 0 ? list.length : after) - 1;
  pick(list[Math.min(Math.max(0, from), list.length - 1)].key);
};
const play = () => {
  const event = scene.events.find((one) => one.key === chosen);
  if (!event) return;
  seek(Math.max(0, event.onset_s - 0.5));
  end = event.offset_s + 0.5;
  video.play();
};
function moved() {
  if (!scene) return;
  const now = video.currentTime;
  if (end !== null && now >= end) { video.pause(); end = null; }
  const line = track.querySelector(".now");
  if (line) line.setAttribute("transform", `translate(${(now / scene.duration_s) * width()},0)`);
  const inside = scene.events.filter((one) => one.onset_s <= now + 0.003 && now < one.offset_s);
  find("current").textContent = inside.length ? inside.map(words).join("  ·  ") : "no expression";
  find("current").classList.toggle("none", !inside.length);
  find("time").textContent = `${clock(now)} / ${clock(scene.duration_s)}  ·  frame ${Math.floor(now * scene.fps + 0.01)}`;
}
const tick = () => { moved(); if (!video.paused) requestAnimationFrame(tick); };
video.addEventListener("play", tick);
for (const name of ["seeked", "timeupdate", "loadedmetadata"]) video.addEventListener(name, moved);
const refuse = () => {
  if (!scene || failed === scene.video) return;
  failed = scene.video;
  note.hidden = false;
  note.textContent = scene.is_copy
    ? "This browser plays neither the file nor a copy in H.264. Everything but the player works; try another browser."
    : "This browser cannot play the file, so a copy that it can play is being made. What was found can be looked at meanwhile.";
  if (!scene.is_copy) trigger("unplayable", {});
};
video.addEventListener("error", refuse);
video.addEventListener("loadedmetadata", () => (video.videoWidth ? (note.hidden = true) : refuse()));

// --- the timeline ---

const width = () => Math.max(280, Math.floor((find("scroll").clientWidth - 2) * zoom));
const CURVE = 26, LANE = 18, GAP = 4;
function drawTimeline() {
  const wide = width(), x = (s) => (s / scene.duration_s) * wide;
  const types = scene.types.length ? scene.types : [""];
  const high = CURVE + types.length * (LANE + GAP) + 8, several = scene.faces.length > 1;
  const height = scene.faces.length * high + 20;
  const svg = make("svg", { width: wide, height, "aria-hidden": "true" }, null, SVG);
  const add = (name, attributes, text = null, parent = svg) => parent.appendChild(make(name, attributes, text, SVG));
  const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
  const every = steps.find((one) => x(one) >= 64) || 14400;
  for (let s = 0; s <= scene.duration_s; s += every) {
    add("line", { x1: x(s), x2: x(s), y1: 0, y2: height - 16, class: "grid" });
    if (x(s) < wide - 24) add("text", { x: x(s) + 3, y: height - 4, class: "tick" }, clock(s, every < 1 ? 1 : 0));
  }
  scene.faces.forEach((face, row) => {
    const top = row * high;
    let last = 0;
    for (const [from, to] of [...face.seen, [scene.duration_s, scene.duration_s]]) {
      if (from - last > 0.2) {
        add("rect", { x: x(last), y: top, width: x(from) - x(last), height: high - 6, class: "unseen" });
      }
      last = Math.max(last, to);
    }
    const points = face.curve.map(([s, score]) => `${x(s).toFixed(1)},${(top + CURVE - Math.max(0, score) * (CURVE - 2)).toFixed(1)}`);
    if (points.length) {
      const ends = [x(face.curve[0][0]), x(face.curve[face.curve.length - 1][0])];
      add("polygon", { points: `${ends[0]},${top + CURVE} ${points.join(" ")} ${ends[1]},${top + CURVE}`, class: "curve" });
    }
    if (several) add("text", { x: 3, y: top + 11, class: "name" }, `face ${face.face_id}`);
  });
  const shown = new Set(visible().map((one) => one.key));
  for (const event of scene.events) {
    const row = Math.max(0, scene.faces.findIndex((face) => face.face_id === event.face_id));
    const lane = Math.max(0, types.indexOf(event.type));
    const left = x(event.onset_s), long = Math.max(5, x(event.offset_s) - left);
    const group = add("g", { class: `event lane${lane % 2} ${event.by}${shown.has(event.key) ? "" : " dim"}`, "data-key": event.key });
    const top = row * high + CURVE + 4 + lane * (LANE + GAP);
    add("title", {}, `${words(event)}, ${clock(event.onset_s)} to ${clock(event.offset_s)}`, group);
    add("rect", { x: left, y: top, width: long, height: LANE, rx: 3, class: "bar" }, null, group);
    if (event.apex_s != null) add("line", { x1: x(event.apex_s), x2: x(event.apex_s), y1: top + LANE - 6, y2: top + LANE, class: "apex" }, null, group);
    if (long > 44) add("text", { x: left + 5, y: top + 12, class: "label" }, (event.label || "no label").slice(0, Math.floor((long - 8) / 7)), group);
  }
  const now = add("g", { class: "now" });
  add("line", { x1: 0, x2: 0, y1: 0, y2: height - 14 }, null, now);
  add("path", { d: "M-5,0 L5,0 L0,7 Z" }, null, now);
  const scroll = find("scroll"), place = scroll.scrollLeft / scroll.scrollWidth;
  track.replaceChildren(svg);
  scroll.scrollLeft = place * scroll.scrollWidth;
  mark();
  moved();
}
track.addEventListener("click", (click) => {
  const hit = click.target.closest(".event");
  if (hit) return pick(hit.dataset.key);
  seek(((click.clientX - track.getBoundingClientRect().left) / width()) * scene.duration_s);
});
find("scroll").addEventListener("keydown", (press) => {
  const act = {
    ArrowLeft: () => (press.shiftKey ? seek(video.currentTime - 1) : step(-1)),
    ArrowRight: () => (press.shiftKey ? seek(video.currentTime + 1) : step(1)),
    ArrowUp: () => next(-1), ArrowDown: () => next(1), Enter: play,
    " ": () => (video.paused ? video.play() : video.pause()),
    Home: () => seek(0), End: () => seek(scene.duration_s),
  }[press.key];
  if (act && scene) { press.preventDefault(); act(); }
});
const enlarge = (factor) => {
  const scroll = find("scroll");
  zoom = factor ? Math.min(256, Math.max(1, zoom * factor)) : 1;
  drawTimeline();
  scroll.scrollLeft = (video.currentTime / scene.duration_s) * width() - scroll.clientWidth / 2;
};

// --- the table ---

const COLUMNS = [
  ["onset_s", "onset"], ["offset_s", "offset"], ["long_s", "length"], ["type", "type"], ["label", "label"],
  ["score", "score"], ["face_id", "face"], ["by", "by"],
];
function drawTable() {
  const rows = visible().map((one) => ({ ...one, long_s: one.offset_s - one.onset_s }));
  const value = (row) => row[sort.by] ?? "";
  rows.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : a.onset_s - b.onset_s) * (sort.up ? 1 : -1));
  body.replaceChildren(...rows.map((row) => {
    const line = make("tr", { "data-key": row.key });
    const cells = [null, clock(row.offset_s), row.long_s.toFixed(2) + " s", kind(row), row.label || "–",
      row.score == null ? "–" : row.score.toFixed(2), row.face_id, row.by];
    cells.forEach((text, place) => {
      const cell = line.appendChild(make("td", { class: COLUMNS[place][0] }, text));
      if (place === 0) cell.appendChild(make("button", { type: "button", "aria-label": `Look at ${words(row)} at ${clock(row.onset_s)}` }, clock(row.onset_s)));
    });
    return line;
  }));
  find("count").textContent = rows.length === scene.events.length
    ? `${rows.length} expression${rows.length === 1 ? "" : "s"}` : `${rows.length} of ${scene.events.length} expressions`;
  for (const head of element.querySelectorAll("th")) {
    head.setAttribute("aria-sort", head.dataset.by === sort.by ? (sort.up ? "ascending" : "descending") : "none");
  }
  mark();
}
body.addEventListener("click", (click) => { const row = click.target.closest("tr"); if (row) pick(row.dataset.key); });
find("head").addEventListener("click", (click) => {
  const head = click.target.closest("th");
  if (!head || !scene) return;
  sort = { by: head.dataset.by, up: sort.by === head.dataset.by ? !sort.up : true };
  drawTable();
});
function mark() {
  for (const one of element.querySelectorAll("[data-key]")) {
    const is = one.dataset.key === chosen;
    one.classList.toggle("chosen", is);
    if (one.tagName === "TR") one.setAttribute("aria-selected", is);
    if (is && one.tagName === "TR") {
      const frame = find("list"), top = one.offsetTop;
      if (top < frame.scrollTop + 30 || top > frame.scrollTop + frame.clientHeight - 30) frame.scrollTop = top - 60;
    }
  }
  find("play").disabled = !chosen;
  // Pictures take a while to follow, and those of another expression must not pass for this one's.
  const strip = document.querySelector(".strip[data-of]");
  if (strip) strip.classList.toggle("old", strip.dataset.of !== chosen);
}
const options = (name, values) => {
  const select = find(name), before = select.value;
  select.replaceChildren(make("option", { value: "" }, "all"), ...values.map((one) => make("option", { value: one }, String(one).replace("-expression", ""))));
  select.value = values.map(String).includes(before) ? before : "";
};
for (const name of ["by-type", "by-label", "by-face", "by-score"]) {
  find(name).addEventListener("input", () => { if (scene) { drawTable(); drawTimeline(); } });
}

// --- buttons, and what comes from the server ---

const BUTTONS = {
  before: () => next(-1), after: () => next(1), back: () => step(-1), forth: () => step(1), play,
  nearer: () => enlarge(2), farther: () => enlarge(0.5), whole: () => enlarge(0),
};
for (const [name, act] of Object.entries(BUTTONS)) find(name).addEventListener("click", () => scene && act());
find("speed").addEventListener("input", () => (video.playbackRate = parseFloat(find("speed").value)));
// Pictures of the filmstrip, which lies elsewhere on the page, lead to their times.
document.addEventListener("click", (click) => {
  const place = click.target.closest && click.target.closest("[data-seek]");
  if (place && scene) { video.pause(); seek(parseFloat(place.dataset.seek)); }
});
// Whoever closes the page loses what was corrected; browsers ask then.
window.addEventListener("beforeunload", (leave) => { if (scene && scene.is_changed) leave.preventDefault(); });
new ResizeObserver(() => scene && drawTimeline()).observe(find("scroll"));

function update() {
  scene = props.value && props.value.video ? props.value : null;
  if (!scene) { video.removeAttribute("src"); video.load(); return; }
  if (video.getAttribute("src") !== scene.video) {
    const now = scene.is_copy ? video.currentTime : 0;
    video.src = scene.video;
    zoom = 1;
    if (!scene.is_copy) note.hidden = true;
    video.addEventListener("loadedmetadata", () => { if (now) seek(now); }, { once: true });
  }
  const used = (name) => [...new Set(scene.events.map((one) => one[name]).filter((one) => one != null && one !== ""))].sort();
  options("by-type", used("type"));
  options("by-label", used("label"));
  options("by-face", used("face_id"));
  find("faces").hidden = used("face_id").length < 2;
  if (scene.chosen !== chosen) {
    chosen = scene.chosen;
    const event = scene.events.find((one) => one.key === chosen);
    if (event && video.paused && (video.currentTime < event.onset_s || video.currentTime > event.offset_s)) {
      if (video.readyState) seek(event.onset_s);
      else video.addEventListener("loadedmetadata", () => seek(event.onset_s), { once: true });
    }
  }
  drawTable();
  drawTimeline();
}
watch("value", update);
update();

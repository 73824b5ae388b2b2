
"use strict";
/* The map: one canvas, one list of documents, one state; every change of the state draws again. */

const $ = (id) => document.getElementById(id);
const TAU = 2 * Math.PI;
const canvas = $("map"), pen = canvas.getContext("2d");
const still = matchMedia("(prefers-reduced-motion: reduce)");
let data, n, order, grid, bounds;
const view = { scale: 1, x: 0, y: 0 };            // screen = place * scale + (x, y), in CSS pixels
const state = { colour: "cluster", only: null, twins: false, query: "", hits: null, hover: -1, chosen: -1 };

/* ---- the documents ---- */

async function unpack() {
  const bytes = Uint8Array.from(atob($("data").content.textContent.trim()), (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  data = JSON.parse(await new Response(stream).text());
  n = data.x.length;
  data.colours = { cluster: { names: data.clusters.map((one) => one.name), codes: data.cluster }, ...data.colours };
  data.searched = data.texts.map((text, i) => `${data.sources[i]}\n${text}`.toLowerCase());
  const ends = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [65535, 0]);
  bounds = { x: ends(data.x), y: ends(data.y) };
  order = [...Array(n).keys()];                    // mixed, so that no colour always lies on top
  for (let i = n - 1, seed = 7; i > 0; i--) {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    const j = seed % (i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  grid = new Map();
  for (let i = 0; i < n; i++) {
    const cell = (data.x[i] >> 9) * 128 + (data.y[i] >> 9);
    if (!grid.has(cell)) grid.set(cell, []);
    grid.get(cell).push(i);
  }
}

const codes = () => data.colours[state.colour].codes;
const dark = () => document.documentElement.classList.contains("dark");

/* Hues a golden angle apart, in a lightness that reads on the paper of the moment. */
function colour(code) {
  const light = dark() ? [0.76, 0.66, 0.82] : [0.62, 0.52, 0.7];
  return `oklch(${light[Math.floor(code / 3) % 3]} ${code % 2 ? 0.14 : 0.17} ${(40 + code * 137.508) % 360})`;
}

const shown = (i) => (state.only === null || codes()[i] === state.only)
  && (!state.hits || state.hits.has(i)) && (!state.twins || data.copies[i] >= 0);

/* ---- drawing ---- */

let asked = false;
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => { asked = false; paint(); });
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
const at = (i) => [data.x[i] * view.scale + view.x, data.y[i] * view.scale + view.y];

function paint() {
  const ratio = devicePixelRatio || 1, wide = innerWidth, high = innerHeight;
  if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, wide, high);
  const zoom = view.scale / fitted();
  const size = Math.min(7, Math.max(1.8, 170 / Math.sqrt(n)) * Math.max(1, zoom ** 0.45));
  const chosenOnly = state.hits || state.twins || state.only !== null, piles = new Map(), faint = new Path2D();
  for (const i of order) {
    const [x, y] = at(i);
    if (x < -9 || y < -9 || x > wide + 9 || y > high + 9) continue;
    let path = faint, radius = size;
    if (shown(i)) {
      const key = codes()[i] * 8 + (i & 7);        // eight piles per colour: colours lie mixed
      if (!piles.has(key)) piles.set(key, new Path2D());
      path = piles.get(key);
      if (chosenOnly) radius = size * 1.4;
    }
    path.moveTo(x + radius, y);
    path.arc(x, y, radius, 0, TAU);
  }
  pen.fillStyle = css("--dim");
  pen.globalAlpha = 0.7;
  pen.fill(faint);
  pen.globalAlpha = 0.82;
  for (const key of [...piles.keys()].sort((a, b) => (a & 7) - (b & 7) || a - b)) {
    pen.fillStyle = colour(key >> 3);
    pen.fill(piles.get(key));
  }
  pen.globalAlpha = 1;
  if (state.twins || state.chosen >= 0) rings(size);
  if (state.colour === "cluster") labels(wide, high);
  for (const [i, width] of [[state.hover, 1.5], [state.chosen, 2.5]]) {
    if (i < 0) continue;
    const [x, y] = at(i);
    pen.beginPath();
    pen.arc(x, y, size + 3.5, 0, TAU);
    pen.lineWidth = width;
    pen.strokeStyle = css("--ink");
    pen.stroke();
  }
}

/* Lines from the chosen document to its copies. */
function rings(size) {
  if (state.chosen < 0 || data.copies[state.chosen] < 0) return;
  const [x, y] = at(state.chosen);
  pen.strokeStyle = css("--accent");
  pen.lineWidth = 1.2;
  pen.beginPath();
  for (const i of copiesOf(state.chosen)) {
    const [p, q] = at(i);
    pen.moveTo(x, y);
    pen.lineTo(p, q);
    pen.moveTo(p + size + 3, q);
    pen.arc(p, q, size + 3, 0, TAU);
  }
  pen.stroke();
}

/* Each cluster's name at the middle of its documents; larger ones first, none over another. */
let middles;
function labels(wide, high) {
  middles ??= data.clusters.map((_, code) => densest(code));
  const taken = [];
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  pen.font = `600 13px ${css("--sans")}`;
  data.clusters.forEach((one, code) => {
    if (!middles[code] || (state.only !== null && state.only !== code)) return;
    const x = middles[code][0] * view.scale + view.x, y = middles[code][1] * view.scale + view.y;
    const half = pen.measureText(one.name).width / 2 + 5;
    if (x + half < 0 || y < 0 || x - half > wide || y > high) return;
    if (taken.some(([p, q, w]) => Math.abs(p - x) < w + half && Math.abs(q - y) < 19)) return;
    taken.push([x, y, half]);
    pen.strokeStyle = css("--paper");
    pen.lineWidth = 4;
    pen.globalAlpha = 0.9;
    pen.strokeText(one.name, x, y);
    pen.globalAlpha = state.hits || state.twins ? 0.6 : 1;
    pen.fillStyle = css("--ink");
    pen.fillText(one.name, x, y);
  });
  pen.globalAlpha = 1;
}

/* The middle of the fullest part of a cluster: the median of one in two islands would lie in the sea. */
function densest(code) {
  const cells = new Map();
  for (let i = 0; i < n; i++) {
    if (data.cluster[i] !== code) continue;
    const cell = (data.x[i] >> 12) * 16 + (data.y[i] >> 12);
    if (!cells.has(cell)) cells.set(cell, []);
    cells.get(cell).push(i);
  }
  const best = [...cells.values()].sort((a, b) => b.length - a.length)[0];
  const middle = (axis) => best.map((i) => data[axis][i]).sort((a, b) => a - b)[best.length >> 1];
  return best && [middle("x"), middle("y")];
}

/* ---- the view ---- */

/* The part of the window that no panel covers. */
function room() {
  const narrow = innerWidth <= 760, panel = $("panel").getBoundingClientRect();
  return narrow ? { left: 12, top: 56, right: innerWidth - 12, bottom: panel.top - 12 }
    : { left: panel.right + 24, top: 24, right: innerWidth - 70, bottom: innerHeight - 24 };
}

function fitted() {
  const free = room(), [left, right] = bounds.x, [top, bottom] = bounds.y;
  return Math.min(Math.max(80, free.right - free.left) / Math.max(1, right - left),
    Math.max(80, free.bottom - free.top) / Math.max(1, bottom - top));
}

/* The view in which every document is in the free part of the window. */
function whole() {
  const free = room(), scale = fitted();
  return { scale, x: (free.left + free.right - (bounds.x[0] + bounds.x[1]) * scale) / 2,
    y: (free.top + free.bottom - (bounds.y[0] + bounds.y[1]) * scale) / 2 };
}

const all = () => glide(whole());

let gliding = 0;
function glide(goal) {
  const start = { ...view }, begun = performance.now(), mine = ++gliding;
  const step = (now) => {
    if (mine !== gliding) return;
    const part = still.matches ? 1 : Math.min(1, (now - begun) / 260), ease = 1 - (1 - part) ** 3;
    for (const key of ["scale", "x", "y"]) view[key] = start[key] + (goal[key] - start[key]) * ease;
    draw();
    if (part < 1) requestAnimationFrame(step);
  };
  step(begun);
}

function zoomed(factor, x, y) {
  const least = fitted() * 0.5, scale = Math.min(least * 400, Math.max(least, view.scale * factor));
  return { scale, x: x - (x - view.x) * scale / view.scale, y: y - (y - view.y) * scale / view.scale };
}

function zoom(factor) {
  const free = room();
  const [x, y] = state.chosen >= 0 ? at(state.chosen) : [(free.left + free.right) / 2, (free.top + free.bottom) / 2];
  glide(zoomed(factor, x, y));
}

/* Brings a document into the free part of the window, if it is outside. */
function bring(i) {
  const [x, y] = at(i), free = room(), right = innerWidth > 1000 ? free.right - 380 : free.right;
  const dx = x < free.left ? free.left + 60 - x : x > right ? right - 60 - x : 0;
  const dy = y < free.top ? free.top + 60 - y : y > free.bottom ? free.bottom - 60 - y : 0;
  if (dx || dy) glide({ scale: view.scale, x: view.x + dx, y: view.y + dy });
}

function nearest(x, y, reach) {
  const px = (x - view.x) / view.scale, py = (y - view.y) / view.scale, far = reach / view.scale;
  let best = -1, least = far * far;
  const cells = Math.min(128, Math.ceil(far / 512) + 1), cx = px >> 9, cy = py >> 9;
  for (let a = Math.max(0, cx - cells); a <= Math.min(127, cx + cells); a++) {
    for (let b = Math.max(0, cy - cells); b <= Math.min(127, cy + cells); b++) {
      for (const i of grid.get(a * 128 + b) ?? []) {
        const distance = (data.x[i] - px) ** 2 + (data.y[i] - py) ** 2;
        if (distance < least && shown(i)) [best, least] = [i, distance];
      }
    }
  }
  return best;
}

/* ---- the chosen document ---- */

const copiesOf = (i) => order.filter((j) => j !== i && data.copies[j] === data.copies[i]).sort((a, b) => a - b);

function choose(i) {
  state.chosen = i;
  $("card").hidden = i < 0;
  $("tip").hidden = true;
  draw();
  if (i < 0) return;
  const cluster = data.clusters[data.cluster[i]];
  const about = [data.kinds[i], data.languages[i], `${data.lengths[i].toLocaleString("en")} characters`, cluster.name];
  $("source").textContent = data.sources[i];
  $("about").textContent = about.filter(Boolean).join(" · ");
  const twins = data.copies[i] < 0 ? [] : copiesOf(i);
  const head = document.createElement("span");
  head.textContent = `Same text, or nearly, as ${twins.length} other${twins.length > 1 ? "s" : ""}:`;
  $("same").replaceChildren(...(twins.length ? [head] : []), ...twins.slice(0, 20).map((j) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = data.sources[j];
    made.addEventListener("click", () => { choose(j); bring(j); });
    return made;
  }));
  excerpt(data.texts[i], data.lengths[i]);
  $("live").textContent = `${data.sources[i]}, ${about.filter(Boolean).join(", ")}`;
}

/* Text nodes and marks only: nothing that a document says can become markup. */
function excerpt(text, length) {
  const parts = [], low = text.toLowerCase(), word = state.query;
  let from = 0, found = word && low.length === text.length ? low.indexOf(word) : -1;
  while (found >= 0) {
    const mark = document.createElement("mark");
    mark.textContent = text.slice(found, found + word.length);
    parts.push(text.slice(from, found), mark);
    from = found + word.length;
    found = low.indexOf(word, from);
  }
  $("text").replaceChildren(...parts, text.slice(from) + (length > text.length ? " …" : ""));
  $("text").scrollTop = 0;
}

/* The next shown document in a direction: near, and not far off it. */
function step(dx, dy) {
  const free = room();
  if (state.chosen < 0) {
    const first = nearest((free.left + free.right) / 2, (free.top + free.bottom) / 2, 1e5);
    if (first >= 0) choose(first);
    return;
  }
  let best = -1, least = Infinity;
  for (let i = 0; i < n; i++) {
    const x = data.x[i] - data.x[state.chosen], y = data.y[i] - data.y[state.chosen];
    const ahead = x * dx + y * dy, aside = Math.abs(x * dy) + Math.abs(y * dx);
    const cost = ahead + 2 * aside;
    if (ahead > 0 && aside <= 2 * ahead && cost < least && shown(i)) [best, least] = [i, cost];
  }
  if (best >= 0) { choose(best); bring(best); }
}

/* ---- the panel ---- */

function legend() {
  const { names } = data.colours[state.colour], counts = new Array(names.length).fill(0);
  for (let i = 0; i < n; i++) counts[codes()[i]]++;
  $("legend").replaceChildren(...names.map((name, code) => {
    const item = document.createElement("li"), button = item.appendChild(document.createElement("button"));
    button.type = "button";
    button.setAttribute("aria-pressed", state.only === code);
    button.appendChild(document.createElement("i")).style.background = colour(code);
    button.appendChild(document.createElement("b")).textContent = name;
    button.appendChild(document.createElement("span")).textContent = counts[code].toLocaleString("en");
    if (state.colour === "cluster") button.title = data.clusters[code].terms.join(", ");
    button.addEventListener("click", () => {
      state.only = state.only === code ? null : code;
      for (const [other, one] of [...$("legend").querySelectorAll("button")].entries()) one.setAttribute("aria-pressed", state.only === other);
      draw();
    });
    return item;
  }));
}

function colourBy(key) {
  state.colour = key;
  state.only = null;
  for (const button of $("colour").querySelectorAll("button")) button.setAttribute("aria-pressed", button.dataset.key === key);
  legend();
  draw();
}

function search() {
  const query = $("search").value.trim().toLowerCase();
  state.query = query;
  state.hits = query ? new Set(order.filter((i) => data.searched[i].includes(query))) : null;
  const found = state.hits?.size ?? 0;
  $("hits").textContent = !query ? "" : found ? `${found.toLocaleString("en")} found; Enter goes through them` : "nothing found";
  draw();
}

function nextHit(back) {
  if (!state.hits?.size) return;
  const found = [...state.hits].sort((a, b) => a - b), now = found.indexOf(state.chosen);
  const next = found[(now + (back ? -1 : 1) + found.length) % found.length];
  choose(next);
  bring(next);
}

function clear() {
  if (state.chosen >= 0) return choose(-1);
  $("search").value = "";
  search();
  state.only = null;
  state.twins = false;
  $("twins").setAttribute("aria-pressed", false);
  legend();
  draw();
}

function theme(isDark) {
  document.documentElement.classList.toggle("dark", isDark);
  if (data) { legend(); draw(); }
}

/* ---- what a person does ---- */

const pointers = new Map();
let travelled = 0, spread = 0;

function listen() {
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    travelled = spread = 0;
    gliding++;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return hover(event);
    const dx = event.clientX - before[0], dy = event.clientY - before[1];
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    travelled += Math.abs(dx) + Math.abs(dy);
    view.x += dx / pointers.size;
    view.y += dy / pointers.size;
    if (pointers.size === 2) {
      const [[a, b], [c, d]] = [...pointers.values()], apart = Math.hypot(a - c, b - d);
      if (spread) Object.assign(view, zoomed(apart / spread, (a + c) / 2, (b + d) / 2));
      spread = apart;
    }
    canvas.classList.toggle("moving", travelled > 4);
    draw();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      if (pointers.delete(event.pointerId) && name === "pointerup" && travelled <= 4) choose(nearest(event.clientX, event.clientY, 14));
      canvas.classList.remove("moving");
      spread = 0;
    });
  }
  canvas.addEventListener("pointerleave", () => { state.hover = -1; $("tip").hidden = true; draw(); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    gliding++;
    Object.assign(view, zoomed(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.clientX, event.clientY));
    draw();
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => glide(zoomed(2, event.clientX, event.clientY)));
  document.addEventListener("keydown", keys);
  $("search").addEventListener("input", search);
  $("search").addEventListener("keydown", (event) => { if (event.key === "Enter") nextHit(event.shiftKey); });
  $("twins").addEventListener("click", () => {
    state.twins = !state.twins;
    $("twins").setAttribute("aria-pressed", state.twins);
    draw();
  });
  $("close").addEventListener("click", () => { choose(-1); canvas.focus(); });
  $("in").addEventListener("click", () => zoom(1.6));
  $("out").addEventListener("click", () => zoom(1 / 1.6));
  $("all").addEventListener("click", all);
  $("theme").addEventListener("click", () => theme(!dark()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => theme(event.matches));
  addEventListener("resize", () => { all(); draw(); });
}

function hover(event) {
  const found = nearest(event.clientX, event.clientY, 12), tip = $("tip");
  canvas.classList.toggle("over", found >= 0);
  if (found !== state.hover) {
    state.hover = found;
    draw();
  }
  tip.hidden = found < 0;
  if (found < 0) return;
  tip.children[0].textContent = data.sources[found];
  tip.children[1].textContent = data.texts[found].replace(/\s+/g, " ").slice(0, 260);
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - box.width - 8)}px`;
  tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 12 : event.clientY + 18}px`;
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    clear();
    canvas.focus();
  } else if (event.target.matches("input")) {
    return;
  } else if (event.key === "/") {
    event.preventDefault();
    $("search").focus();
    $("search").select();
  } else if (ARROWS[event.key] && (event.target === canvas || event.target === document.body)) {
    event.preventDefault();
    step(...ARROWS[event.key]);
  } else if (event.key === "+" || event.key === "=") {
    zoom(1.6);
  } else if (event.key === "-") {
    zoom(1 / 1.6);
  } else if (event.key === "0") {
    all();
  }
}

async function begin() {
  theme(matchMedia("(prefers-color-scheme: dark)").matches);
  await unpack();
  const number = (value) => value.toLocaleString("en");
  const twins = data.copies.filter((group) => group >= 0).length, left = Object.values(data.leftOut).reduce((a, b) => a + b, 0);
  $("name").textContent = data.name;
  $("facts").textContent = `${number(n)} documents · ${data.clusters.length} clusters`
    + (left ? ` · ${Object.entries(data.leftOut).map(([why, count]) => `${number(count)} ${why}`).join(" · ")}` : "");
  $("twins").textContent = twins ? `${number(twins)} with copies` : "no copies found";
  $("twins").disabled = !twins;
  $("method").textContent = data.method;
  $("colour").append(...Object.keys(data.colours).map((key) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.key = key;
    button.textContent = key;
    button.addEventListener("click", () => colourBy(key));
    return button;
  }));
  colourBy("cluster");
  listen();
  Object.assign(view, whole());
  draw();
  document.documentElement.dataset.ready = "yes";
}

begin();

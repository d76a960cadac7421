// The part of a run's page that is for exploring. explore.py puts these files one after the other into one function, and
// the numbers, what is said of them and plotly.js into the page; nothing is loaded from elsewhere.
// This one: what is packed, a place of the grid and its numbers, and what is chosen to be drawn.
const MOST_LINES = 30, MOST_PANELS = 8, MOST_CHOSEN = 5, MOST_SEEDS = 12, MOST_SYMBOLS = 2000, MOST_MARKERS = 60;
const FEW = 5; // levels of a number that are told apart as lines; more are a map
const LARGEST = 1e300; // in size; above it the arithmetic of axes overflows
const MARKERS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "star"];
const GLYPHS = ["●", "■", "▲", "◆", "▼", "✚", "★"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "2px 6px"];
const NOT_OK = [ // what became of seeds that are in no mean, worst first
  { code: 1, symbol: "x-thin", glyph: "×", grey: "#8a8a8a" },
  { code: 2, symbol: "triangle-up-open", glyph: "△", grey: "#b4b4b4" },
  { code: 3, symbol: "circle-open", glyph: "○", grey: "#e3e3e3" },
];
const FONT = { family: "system-ui, sans-serif", size: 13, color: "#1a1a1a" };
const CONFIG = {
  displaylogo: false, displayModeBar: true, toImageButtonOptions: { format: "svg", filename: document.title },
  modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
};

// ---------------------------------------------------------------------------------------------------- what is packed

const page = document.getElementById("explore");
const content = id => document.getElementById(id).textContent;

async function unpacked(id) {
  const text = atob(content(id)), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

if (!window.DecompressionStream) return; // an old browser, for which the static figures are there
const about = JSON.parse(content("explore-about"));
const numbers = await unpacked("explore-numbers");
const library = document.createElement("script");
library.textContent = new TextDecoder().decode(await unpacked("explore-library"));
document.head.append(library);

const ARRAYS = { f4: Float32Array, f8: Float64Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };
const array = ([start, count, type]) => new ARRAYS[type](numbers, start, count);
for (const part of about.parts) {
  part.counts = array(part.counts);
  part.statuses = array(part.statuses);
  part.named = Object.fromEntries(part.dims.map(dim => [dim.name, dim]));
  for (const probe of part.probes)
    for (const key of ["values", "mean", "half", "n"]) if (probe[key]) probe[key] = array(probe[key]);
}

// ------------------------------------------------------------------------------------------- a place and its numbers

// What is drawn, and how. A place is a position by dimension; those that are chosen have no "record".
const now = { part: about.first, probe: 0, kind: "", x: "", by: "", panel: "", log: null };
Object.assign(now, { at: {}, hidden: [], chosen: [] });
const part = () => about.parts[now.part];
const probe = () => part().probes[now.probe];
const dim = name => part().named[name];
const size = name => dim(name).texts.length;
const wide = () => probe().dims.filter(name => size(name) > 1);
const level = name => now.at[name] ?? (name === "record" ? size(name) - 1 : 0);
const offset = (names, place) => names.reduce((sum, name) => sum * size(name) + place[name], 0);

function read(place) {
  const one = probe(), at = offset(one.dims, place), kept = part().seed_names.length, codes = about.status.length;
  const point = offset(part().dims.slice(0, part().axes).map(each => each.name), place);
  const seeds = part().seed_names.map((name, i) => (
    { name, value: one.values[at * kept + i], status: part().statuses[point * kept + i] }));
  const counts = about.status.map((_, code) => part().counts[point * codes + code]);
  const worst = NOT_OK.find(({ code }) => counts[code]);
  if (one.mean) return { mean: one.mean[at], half: one.half[at], n: one.n[at], counts, worst, seeds };
  const counted = seeds[0].status === 0 && Number.isFinite(seeds[0].value);
  return { mean: counted ? seeds[0].value : NaN, half: NaN, n: +counted, counts, worst, seeds };
}

const drawable = (value, log) => (Math.abs(value) <= LARGEST && !(log && value <= 0) ? value : NaN);
const short = (value, digits = 4) => (Number.isNaN(value) ? "–" : String(+value.toPrecision(digits)));
const clipped = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);
const escaped = text => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); // for plotly
const wrapped = (text, most = 22) => escaped(text).replace(new RegExp(`(.{${most},}?) `, "g"), "$1<br>");
const told = (name, place) =>
  (name === "record" ? "after " : `${dim(name).path} = `) + dim(name).texts[place[name]];

function hover(place, { mean, half, n, counts, seeds }) {
  const several = part().seeds > 1, reasons = NOT_OK.filter(({ code }) => counts[code]).map(
    ({ code, glyph }) => `${glyph} ${several ? counts[code] + " " : ""}${about.status[code]}`).join(", ");
  const lines = [`<b>${escaped(probe().title)}: ${short(mean)}${half >= 0 ? ` ± ${short(half, 2)}` : ""}</b>`];
  lines.push(...wide().map(name => escaped(clipped(told(name, place), 48))));
  if (several) lines.push(`${n} of ${part().seeds} seeds${reasons ? ": " + reasons : ""}`);
  else if (reasons) lines.push(`${reasons}: ${short(seeds[0].value)}`);
  const each = seeds.slice(0, several ? MOST_SEEDS : 0).map(({ name, value, status }) =>
    `${name}: ${short(value)}${status ? ` (${about.status[status]})` : ""}`.replace(/ /g, "\xa0"));
  const room = page.clientWidth < 600 ? 36 : 60; // characters
  return [...lines, wrapped(each.join(", "), room - 16)].filter(Boolean).join("<br>");
}

// ------------------------------------------------------------------------------------------------ what can be chosen

function begin() { // a part anew, drawn as its axes ask for
  Object.assign(now, { probe: 0, log: null, at: {}, hidden: [] });
  const names = wide().filter(name => name !== "record"), numeric = name => dim(name).numeric;
  const long = names.filter(numeric).sort((a, b) => size(b) - size(a));
  const few = names.filter(name => !numeric(name) && name !== "matrix");
  const matrix = names.includes("matrix") ? "matrix" : "";
  now.kind = long.length > 1 && size(long[1]) > FEW ? "map" : "lines";
  now.x = long[0] ?? "record";
  const others = now.kind === "map" ? [long[1], ...few, ...long.slice(2)] : [...few, ...long.slice(1)];
  [now.by, now.panel] = [others[0] ?? "", matrix || (others[1] ?? "")];
  fit();
  // The curves that are there before anything is clicked: of the ends and the middle of a line.
  const place = { ...base(), ...(now.kind === "map" && { [now.by]: size(now.by) >> 1 }) };
  delete place.record;
  const curved = now.x !== "record" && size("record") > 1;
  const three = curved ? [...new Set([0, size(now.x) >> 1, size(now.x) - 1])] : [];
  now.chosen = three.map(i => ({ ...place, [now.x]: i }));
}

function fit() { // the choices to what the probe has
  const names = wide(), free = () => names.filter(name => ![now.x, now.by, now.panel].includes(name));
  for (const role of ["x", "by", "panel"]) if (!names.includes(now[role])) now[role] = "";
  now.x ||= free()[0] ?? "record";
  if (now.kind === "map") now.by ||= free().sort((a, b) => size(b) - size(a))[0] ?? "";
  if (!now.by) now.kind = "lines";
  now.chosen = now.chosen.map(place => ({ ...base(), ...place })).map(({ record, ...place }) => place);
}

function set(change) {
  Object.assign(now, { hidden: [], log: null }, change);
  fit();
  show();
}

function choose(role, name) { // who had that dimension gets the one that becomes free
  const other = ["x", "by", "panel"].find(each => each !== role && name && now[each] === name);
  set({ ...(other && { [other]: now[role] }), [role]: name });
}

function evenly(count, most) {
  const number = Math.min(count, most), step = (count - 1) / (number - 1 || 1);
  return Array.from({ length: number }, (_, i) => Math.round(i * step));
}

const base = () => Object.fromEntries(probe().dims.map(name => [name, level(name)]));
const levels = (name, most) => (name ? evenly(size(name), most) : [0]);
const ordered = name => dim(name).at.map((_, i) => i).sort((a, b) => dim(name).at[a] - dim(name).at[b]);
const placed = (place, name, index) => (name ? { ...place, [name]: index } : place);

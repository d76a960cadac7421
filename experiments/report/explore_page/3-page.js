// The page: controls, legends, and what a click on a point shows.

// ---------------------------------------------------------------------------------------------------------- the page

function make(tag, properties = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside);
  return element;
}

function select(text, options, value, onchange) { // options: [value, text]
  const list = make("select", {}, ...options.map(([key, said]) => make("option", { value: key }, clipped(said, 60))));
  list.value = value;
  list.onchange = () => onchange(list.value);
  return make("label", {}, text, list);
}

function slice(name) { // which value of a dimension that is on no axis
  const { path, texts, numeric } = dim(name), change = index => { now.at[name] = +index; show(); };
  if (!numeric || texts.length <= FEW) return select(path, texts.map((text, i) => [i, text]), level(name), change);
  const said = name === "record" ? "after" : path, output = make("output", {}, texts[level(name)]);
  const range = make("input", { type: "range", min: 0, max: texts.length - 1 });
  range.value = level(name);
  range.oninput = () => { output.textContent = texts[range.value]; };
  range.onchange = () => change(range.value);
  return make("label", {}, said + " ", output, range);
}

function turn(part) {
  now.part = +part;
  begin();
  show();
}

function measure(index) {
  now.probe = +index;
  set({ panel: now.panel || (wide().includes("matrix") ? "matrix" : "") });
}

function controls() {
  const names = wide(), named = names.map(name => [name, dim(name).path]), none = [["", "–"]];
  const map = now.kind === "map", scale = now.log === null ? "" : String(+now.log);
  return [
    ...(about.parts.length > 1
      ? [select("part", about.parts.map(({ name }, i) => [i, name]), now.part, turn)] : []),
    select("measure", part().probes.map(({ title }, i) => [i, title]), now.probe, measure),
    ...(names.length > 1 ? [
      select("as", [["lines", "lines"], ["map", "a map"]], now.kind, kind => set({ kind })),
      select("across", named, now.x, name => choose("x", name)),
      select(map ? "up" : "colours", map ? named : [...none, ...named], now.by, name => choose("by", name))] : []),
    ...(names.length > 2 ? [select("panels", [...none, ...named], now.panel, name => choose("panel", name))] : []),
    select("scale", [["", "as it suits"], ["0", "linear"], ["1", "logarithmic"]], scale,
      value => set({ log: value === "" ? null : value === "1" })),
    ...names.filter(name => ![now.x, now.by, now.panel].includes(name)).map(slice),
  ];
}

function legend(title, entries, pressed, onclick) {
  const buttons = entries.map(({ index, text, colour, glyph }) => {
    const key = make("span", {}, glyph + " "), button = make("button", { type: "button" }, key, clipped(text, 80));
    key.style.color = colour;
    button.setAttribute("aria-pressed", pressed(index));
    button.onclick = () => index !== undefined && onclick(index);
    return button;
  });
  if (title) buttons.unshift(make("b", {}, title));
  return entries.length ? [make("div", { className: "legend" }, ...buttons)] : [];
}

function said(notes) { // in words, what is to be known of the figure
  const { seeds, counts } = part(), map = now.kind === "map", seen = NOT_OK.filter(
    ({ code }) => counts.some((count, i) => i % about.status.length === code && count > 0));
  const all = [
    ...(seeds > 1 ? [`Means over ${seeds} seeds${map ? "." : ", bands: 95 % intervals (Student t)."}`] : []),
    ...(seen.length ? ["In no mean: " + seen.map(({ code, glyph }) => `${glyph} ${about.status[code]}`).join(", ")
      + (map ? "." : ", marked at the foot in the colour of the line.")] : []),
    ...notes,
    ...(size("record") > 1 ? ["Click points for their learning curves, and once more to let them go."] : []),
    ...part().notes,
  ];
  return make("p", { className: "note" }, all.join(" "));
}

const [above, figure, between, below] = Array.from({ length: 4 }, () => make("div"));
const [heading, curves, after] = [make("h3"), make("div", { className: "figure" }), make("div")];
let width = 0, drawn = { key: "" };

function show(room = page.clientWidth) {
  const { chosen, ...rest } = now, { at, hidden, ...choices } = rest, key = JSON.stringify([rest, room]);
  if (drawn.key !== key) drawn = { key, ...(now.kind === "map" ? drawMaps(room) : drawLines(room)) };
  const shown = index => !now.hidden.includes(index);
  width = room;
  above.replaceChildren(...controls());
  // A zoom outlasts clicks and slices.
  const layout = { ...drawn.layout, uirevision: JSON.stringify(choices) };
  Plotly.react(figure, [...drawn.traces, ...rings()], layout, CONFIG);
  const title = now.kind === "lines" && now.by ? dim(now.by).path : "";
  between.replaceChildren(...legend(title, drawn.entries, shown, index => {
    now.hidden = shown(index) ? [...now.hidden, index] : now.hidden.filter(each => each !== index);
    show();
  }), said(drawn.notes));
  below.hidden = size("record") < 2 || chosen.length === 0;
  if (below.hidden) return;
  const chart = drawCurves(room);
  heading.textContent = chart.title;
  Plotly.react(curves, chart.traces, { ...chart.layout, uirevision: now.part + " " + now.probe }, CONFIG);
  after.replaceChildren(...legend("", chart.entries, () => true, index => {
    now.chosen = chosen.filter((_, i) => i !== index);
    show();
  }));
}

function pick({ points: [{ data: { places }, pointNumber: at }] }) {
  if (!places) return;
  const { record, ...place } = Array.isArray(at) ? places[at[0]][at[1]] : places[at];
  const same = other => Object.keys(place).every(name => place[name] === other[name]);
  const others = now.chosen.filter(other => !same(other));
  now.chosen = others.length < now.chosen.length ? others : [...others, place].slice(-MOST_CHOSEN);
  show();
}

above.className = "controls";
figure.className = "figure";
below.append(heading, curves, after);
page.append(make("h2", {}, "Explore"), above, figure, between, below);
page.hidden = false;
begin();
show();
figure.on("plotly_click", pick);
addEventListener("resize", () => { if (page.clientWidth !== width) show(); });
addEventListener("beforeprint", () => {
  for (const table of document.querySelectorAll("details.printed")) table.open = true;
  show(Math.min(width, 680));
});
addEventListener("afterprint", () => show());
for (const pictures of document.querySelectorAll("details.static")) pictures.open = false;
page.dataset.drawn = Math.round(performance.now()); // milliseconds since the page was asked for

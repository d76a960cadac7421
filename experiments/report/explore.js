// The part of a run's page that is for exploring: which numbers are drawn over what, and what a click on a point shows.
// explore.py puts the numbers, what is said of them and plotly.js into the page; nothing is loaded from elsewhere.
"use strict";
(async () => {
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

  // ----------------------------------------------------------------------------------------------------- looks, frames

  const hues = count => (count <= about.colours.length ? about.colours.slice(0, count)
    : evenly(about.shades.length, count).map(i => about.shades[i]));

  const line = { showline: true, linecolor: "#666", gridcolor: "#eee", zeroline: false, ticks: "outside", ticklen: 4 };

  function axis(name) { // of plotly, for a dimension
    const { label, at, log, seconds, ticks } = dim(name), [start, end] = [at[0], at.at(-1)];
    const title = { text: seconds ? label.replace(/ \(s\)$/, "") : label, standoff: 8 };
    const look = { ...line, title, type: log ? "log" : "linear", nticks: 6, exponentformat: "power" };
    const named = ticks?.map(([, text]) => escaped(clipped(text, 14)));
    if (ticks) return { ...look, tickvals: ticks.map(([value]) => value), ticktext: named };
    const decades = log && Math.max(...at) >= 100 * Math.min(...at);
    if (name === "record" && end > start) look.range = [start, end + 0.02 * (end - start)];
    return { ...look, ...(seconds && { tickformat: "~s", ticksuffix: "s" }), ...(decades && { dtick: 1 }) };
  }

  function values(log, range) { // the axis of what was measured
    const title = { text: probe().title, standoff: 6 };
    return { ...line, title, type: log ? "log" : "linear", range, nticks: 7, exponentformat: "power" };
  }

  const step = rows => Math.min(0.06, 0.3 / (rows || 1)); // between rows of marks, as a share of what is above them

  function range(within, log, rows) { // with room for so many rows of marks at the foot
    let [low, high] = [Infinity, -Infinity];
    for (const value of within) [low, high] = [Math.min(low, value), Math.max(high, value)];
    if (!(low <= high)) [low, high] = log ? [0.1, 1] : [0, 1];
    if (log) [low, high] = [Math.log10(low), Math.log10(high)];
    const bounded = !log && probe().bounds.length, room = bounded ? 0 : 0.05 * (high - low || Math.abs(high) || 1);
    if (bounded) [low, high] = probe().bounds;
    return [low - room - rows * step(rows) * (high - low + 2 * room), high + room];
  }

  // The frames of panels in rows; what is drawn in panel i goes to the axes with the number i + 1, those of 0 none.
  const note = { yref: "paper", xanchor: "left", showarrow: false };
  const frame = i => ({ xaxis: "x" + (i ? i + 1 : ""), yaxis: "y" + (i ? i + 1 : "") });

  function framed(titles, x, y, room, height, right = 24) {
    const columns = Math.max(1, Math.min(titles.length, 4, Math.floor((room - right) / 250)));
    const rows = Math.ceil(titles.length / columns);
    const [gapX, gapY] = [columns > 1 ? 0.03 : 0, rows > 1 ? 0.22 / rows : 0];
    const [w, h] = [(1 - (columns - 1) * gapX) / columns, (1 - (rows - 1) * gapY) / rows];
    const layout = {
      annotations: [], shapes: [], font: FONT, width: room, height: rows * height + 70, showlegend: false,
      margin: { l: 74, r: right, t: 28, b: 56 }, hovermode: "closest",
      hoverlabel: { align: "left", font: FONT, bgcolor: "#fff" },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    };
    titles.forEach((title, i) => {
      const column = i % columns, left = column * (w + gapX), top = 1 - Math.floor(i / columns) * (h + gapY);
      const { xaxis, yaxis } = frame(i), lowest = i + columns >= titles.length;
      const across = { ...x.title, text: wrapped(x.title.text, Math.floor(w * room / 12)) };
      const up = { ...y.title, text: wrapped(y.title.text) };
      layout["xaxis" + xaxis.slice(1)] = { ...x, domain: [left, Math.min(left + w, 1)], anchor: yaxis,
        ...(i && { matches: "x" }), title: lowest ? across : undefined, automargin: true };
      layout["yaxis" + yaxis.slice(1)] = { ...y, domain: [Math.max(top - h, 0), top], anchor: xaxis,
        ...(i && { matches: "y" }), title: column ? undefined : up, automargin: true, showticklabels: !column };
      layout.annotations.push({ ...note, text: escaped(clipped(title, Math.floor(w * room / 9))), x: left, y: top,
        xref: "paper", yanchor: "bottom", font: { ...FONT, size: 14 } });
    });
    return layout;
  }

  function phases(layout) { // where each phase of a run begins, and its name
    (dim("record").phases ?? []).forEach(([start, name], i) => {
      const grey = { color: "#999", dash: "dot", width: 1 };
      if (i) layout.shapes.push({ type: "line", x0: start, x1: start, y0: 0, y1: 1, yref: "paper", line: grey });
      layout.annotations.push({ ...note, text: escaped(clipped(name, 16)), x: start, y: 1,
        xref: "x", yanchor: "top", font: { ...FONT, size: 12, color: "#666" } });
    });
  }

  // ------------------------------------------------------------------------------------------------------------- lines

  function polygon(x, low, high) { // around every stretch that has an interval
    const around = { x: [], y: [] }, known = x.map((_, i) => !Number.isNaN(low[i]) && !Number.isNaN(high[i]));
    for (let i = 0, end; i < x.length; i = end + 1) {
      for (end = i; known[i] && known[end + 1]; ) end++;
      if (!known[i]) continue;
      const there = [...Array(end - i + 1).keys()].map(k => i + k), back = [...there].reverse();
      around.x.push(...there.map(k => x[k]), ...back.map(k => x[k]), null);
      around.y.push(...there.map(k => high[k]), ...back.map(k => low[k]), null);
    }
    return around;
  }

  // Means as a line, intervals as a band; `places` in the order of x.
  function curve(places, along, look, log) {
    const found = places.map(read), x = places.map(place => dim(along).at[place[along]]);
    const [low, y, high] = [-1, 0, 1].map(
      side => found.map(({ mean, half }) => drawable(side ? mean + side * half : mean, log)));
    const lost = places.map((place, i) => ({ place, x: x[i], found: found[i] })).filter(
      ({ found }, i) => found.worst && (along !== "record" || i === places.length - 1));
    const marked = x.length === 1 || (along !== "record" && look.symbol && x.length <= MOST_MARKERS);
    const band = { ...polygon(x, low, high), mode: "lines", fill: "toself", fillcolor: look.colour, opacity: 0.18,
      line: { width: 0 }, hoverinfo: "skip" };
    const text = places.map((place, i) => hover(place, found[i]));
    const means = { x, y, places, text, hoverinfo: "text", mode: marked ? "lines+markers" : "lines",
      line: { color: look.colour, width: 2, dash: look.dash },
      marker: { symbol: look.symbol, size: 7, color: look.colour } };
    const within = [...low, ...y, ...high].filter(Number.isFinite);
    const empty = found.every(({ n }) => n === 0);
    return { traces: band.x.length ? [band, means] : [means], lost, look, within, empty };
  }

  const rowsOf = curves => curves.filter(({ lost }) => lost.length).length;

  // Marks at the foot of a panel, a row for each line of which seeds are lost, in the room that `range` left.
  function feet(curves, [low, high], log) {
    const rows = curves.filter(({ lost }) => lost.length), apart = step(rows.length);
    const row = apart / (1 + rows.length * apart) * (high - low);
    const all = rows.flatMap(({ lost, look: { colour } }, i) =>
      lost.map(each => ({ ...each, colour, at: low + (i + 0.5) * row })));
    const color = all.map(({ colour }) => colour), symbol = all.map(({ found }) => found.worst.symbol);
    return !all.length ? [] : [{
      x: all.map(each => each.x), y: all.map(({ at }) => (log ? 10 ** at : at)), places: all.map(({ place }) => place),
      mode: "markers", marker: { symbol, size: 8, color, line: { width: 2, color } },
      hoverinfo: "text", text: all.map(({ place, found }) => hover(place, found)),
    }];
  }

  function drawLines(room) {
    const panels = levels(now.panel, MOST_PANELS), lines = levels(now.by, MOST_LINES), colours = hues(lines.length);
    const few = lines.length <= MARKERS.length;
    const dashed = few && now.x === "record";
    const look = (colour, i) => ({ colour, symbol: few && MARKERS[i], dash: dashed ? DASHES[i] : "solid" });
    const looks = colours.map(look);
    const order = ordered(now.x), at = (p, l) => placed(placed(base(), now.panel, p), now.by, l);
    const all = panels.map(p => lines.map((l, i) => {
      const place = at(p, l);
      return curve(order.map(k => placed(place, now.x, k)), now.x, looks[i], now.log);
    }));
    const shown = all.map(curves => curves.filter((_, i) => !now.hidden.includes(lines[i])));
    const ends = range(shown.flat().flatMap(({ within }) => within), now.log, Math.max(...shown.map(rowsOf)));
    const titles = panels.map(p => (now.panel ? dim(now.panel).texts[p] : ""));
    const layout = framed(titles, axis(now.x), values(now.log, ends), room, 270);
    if (now.x === "record") phases(layout);
    const traces = shown.flatMap((curves, i) => [
      ...curves.flatMap(({ traces }) => traces), ...feet(curves, ends, now.log),
    ].map(trace => ({ ...trace, ...frame(i) })));
    const there = i => all.some(curves => !curves[i].empty || curves[i].lost.length);
    const entries = lines.map((index, i) => ({ index, there: there(i), text: now.by && dim(now.by).texts[index],
      colour: colours[i], glyph: few ? GLYPHS[i] : "▬" })).filter(entry => now.by && entry.there);
    return { traces, layout, entries, notes: cut([now.panel, panels, "panels"], [now.by, lines, "lines"]) };
  }

  const cut = (...drawn) => drawn.filter(([name, shown]) => name && shown.length < size(name)).map(
    ([name, { length }, things]) => `${length} of ${size(name)} ${things} are drawn, spread over ${dim(name).path}.`);

  // -------------------------------------------------------------------------------------------------------------- maps

  function drawMaps(room) {
    const panels = levels(now.panel, MOST_PANELS);
    const [across, up] = [ordered(now.x), ordered(now.by)];
    const all = panels.map(p => up.map(b => across.map(a => {
      const place = placed({ ...base(), [now.by]: b, [now.x]: a }, now.panel, p);
      return { place, ...read(place) };
    })));
    const { scaled, coloraxis } = colours(all.flat(2).map(({ mean }) => drawable(mean)).filter(Number.isFinite));
    const ranged = name => {
      const { log, edges } = dim(name), ends = [edges[0], edges.at(-1)];
      return { ...axis(name), range: log ? ends.map(Math.log10) : ends };
    };
    const titles = panels.map(p => (now.panel ? dim(now.panel).texts[p] : ""));
    const layout = framed(titles, ranged(now.x), ranged(now.by), room, 290, 110);
    layout.coloraxis = coloraxis;
    const [left, right] = layout.xaxis.domain;
    const cell = Math.min((right - left) * (room - 184) / across.length, 230 / up.length); // about, in pixels
    const greys = NOT_OK.flatMap(({ grey }, k) => [[k / 3, grey], [(k + 1) / 3, grey]]);
    const lost = all.map(map => map.flat().filter(({ worst, n }) => worst && (n > 0 || cell >= 9)));
    const symbols = lost.flat().length <= MOST_SYMBOLS;
    const traces = all.flatMap((map, i) => {
      const heat = { type: "heatmap", x: dim(now.x).edges, y: dim(now.by).edges, ...frame(i) };
      const lostAll = ({ n, worst }) => (n || !worst ? NaN : NOT_OK.indexOf(worst));
      const grey = { ...heat, z: map.map(row => row.map(lostAll)), colorscale: greys,
        zmin: -0.5, zmax: 2.5, showscale: false, hoverinfo: "skip" };
      const colour = { ...heat, z: map.map(row => row.map(({ mean }) => scaled(drawable(mean)))),
        coloraxis: "coloraxis", places: map.map(row => row.map(({ place }) => place)), hoverinfo: "text",
        text: map.map(row => row.map(found => hover(found.place, found))) };
      return [grey, colour, ...(symbols ? marks(lost[i], Math.max(3, Math.min(7, 0.7 * cell)), frame(i)) : [])];
    });
    const many = lost.flat().length;
    const notes = symbols ? [] : [`Of ${many} cells some seeds are lost, too many for symbols: hover tells.`];
    const seen = NOT_OK.filter(each => all.flat(2).some(({ n, worst }) => n === 0 && worst === each));
    const entries = seen.map(({ code, grey }) => ({ text: `all ${about.status[code]}`, colour: grey, glyph: "■" }));
    return { traces, layout, entries, notes: [...cut([now.panel, panels, "maps"]), ...notes] };
  }

  function marks(cells, size, axes) { // on cells of which seeds are lost
    const color = cells.map(({ n }) => (n ? "#fff" : "#1a1a1a")), symbol = cells.map(({ worst }) => worst.symbol);
    const places = cells.map(({ place }) => place), at = name => places.map(place => dim(name).at[place[name]]);
    return !cells.length ? [] : [{
      ...axes, x: at(now.x), y: at(now.by), places, mode: "markers", hoverinfo: "text",
      marker: { symbol, size, color, line: { width: 1.5, color } }, text: cells.map(cell => hover(cell.place, cell)),
    }];
  }

  function colours(known) { // one scale for all maps, logarithmic where positive values span more than two decades
    let [low, high] = known.length ? [Infinity, -Infinity] : [0, 1];
    for (const value of known) [low, high] = [Math.min(low, value), Math.max(high, value)];
    const log = low > 0 && (now.log ?? high / low > 100), scaled = value => (log ? Math.log10(value) : value);
    const title = { text: wrapped(probe().title), side: "right" };
    const colorbar = { title, thickness: 14, outlinewidth: 0, nticks: 6, exponentformat: "power" };
    const [from, to] = [scaled(low), scaled(high)];
    if (log) {
      const decades = [...Array(Math.floor(to) - Math.ceil(from) + 1).keys()].map(i => Math.ceil(from) + i);
      const ticks = decades.length < 2 ? [from, to] : evenly(decades.length, 6).map(i => decades[i]);
      Object.assign(colorbar, { tickvals: ticks, ticktext: ticks.map(tick => short(10 ** tick, 2)) });
    }
    return { scaled, coloraxis: { colorscale: "Viridis", cmin: from, cmax: to > from ? to : from + 1, colorbar } };
  }

  // --------------------------------------------------------------------------------------------------- learning curves

  // Those of the places that are chosen; seeds that are in no mean, dotted, and of a single place all, grey.
  function drawCurves(room) {
    const log = now.kind === "lines" && now.log, alone = now.chosen.length === 1 && part().seeds > 1;
    const along = place => ordered("record").map(record => ({ ...place, record }));
    const look = i => ({ colour: about.colours[i], dash: DASHES[i] });
    const curves = now.chosen.map((place, i) => curve(along(place), "record", look(i), log));
    const seeds = now.chosen.flatMap((place, i) => part().seed_names.map((name, s) => {
      const found = along(place).map(each => read(each).seeds[s]), ok = found[0].status === 0;
      const text = found.map(({ value }) => `${name} ${about.status[found[0].status]}: ${short(value)}`);
      return { ok, x: dim("record").at, y: found.map(({ value }) => drawable(value, log)), text, hoverinfo: "text",
        mode: "lines", line: { color: ok ? "#999" : about.colours[i], width: 1, dash: ok ? "solid" : "dot" } };
    })).filter(({ ok }) => alone || !ok);
    const finite = some => some.flatMap(({ y }) => y.filter(Number.isFinite));
    let within = [...curves.flatMap(each => each.within), ...finite(seeds.filter(({ ok }) => ok))];
    if (!within.length) within = finite(seeds); // else not: what diverges leaves no room for the others
    const ends = range(within, log, rowsOf(curves));
    const layout = framed([""], axis("record"), values(log, ends), room, 270);
    phases(layout);
    const names = wide().filter(name => name !== "record"), [first] = now.chosen;
    const same = names.filter(name => now.chosen.every(place => place[name] === first[name]));
    const listed = (some, place) => some.map(name => told(name, place)).join(", ");
    const entries = now.chosen.length < 2 ? [] : now.chosen.map((place, index) => ({ index, glyph: "▬",
      colour: about.colours[index], text: listed(names.filter(name => !same.includes(name)), place) }));
    if (seeds.some(({ ok }) => !ok)) entries.push({ text: "in no mean", colour: "#666", glyph: "┄" });
    const title = [now.chosen.length > 1 ? "Learning curves" : "Learning curve", listed(same, first)];
    return { traces: [...seeds, ...curves.flatMap(({ traces }) => traces), ...feet(curves, ends, log)], layout, entries,
      title: title.filter(Boolean).join(": ") };
  }

  function rings() { // around the places whose curves are shown
    const roles = [now.x, now.by, now.panel, "record"];
    if (roles.slice(0, 3).includes("record")) return [];
    return now.chosen.flatMap((place, i) => {
      const at = now.panel ? levels(now.panel, MOST_PANELS).indexOf(place[now.panel]) : 0;
      if (at < 0 || probe().dims.some(name => !roles.includes(name) && place[name] !== level(name))) return [];
      const y = now.kind === "map" ? dim(now.by).at[place[now.by]] : read({ ...place, record: level("record") }).mean;
      const ring = (size, color) => ({ x: [dim(now.x).at[place[now.x]]], y: [y], ...frame(at), hoverinfo: "skip",
        mode: "markers", cliponaxis: false, marker: { symbol: "circle-open", size, color, line: { width: 3 } } });
      return [...(now.kind === "map" ? [ring(16, "#fff")] : []), ring(12, about.colours[i])];
    });
  }

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
})();

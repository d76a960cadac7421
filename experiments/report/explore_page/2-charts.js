// What is drawn: lines with intervals, maps, learning curves, each as traces and layout of plotly.js.

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

// Draws the charts from the numbers beside them, and turns lists of nights into sliders. Every page works without it.
"use strict";
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axes = uPlot.sync("time");
  const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }), whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const plain = { format: (v) => (Math.abs(v) < 1000 ? short : whole).format(v) };
  const drawn = new Map();
  // As many decimals as tell one tick from the next.
  const fixed = (step) => { const digits = (String(step).split(".")[1] || "").length; return (v) => v.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }); };

  // Some values far off, as of an outage, would squeeze all others into a line, and so would limits that lie far off. Those
  // are left out: the values are named on the chart, the limits in the sentence.
  function range(data, observed, low, high) {
    const ends = (lists) => lists.flat().reduce(([a, b], v) => v == null ? [a, b] : [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    const all = ends(data.slice(1)), came = observed.filter((v) => v != null).sort((a, b) => a - b);
    if (all[0] === Infinity) return { y: [0, 1], all };
    const alive = came.filter((v) => v !== 0);  // zeros are those of outages where they are few
    const usually = came.length - alive.length <= came.length / 10 ? alive : came, few = Math.floor(usually.length / 50);  // one value in fifty at either end
    let [least, most] = ends([...data.slice(1).filter((values) => values !== observed), usually.slice(few, usually.length - few)]);
    const usual = most - least || Infinity;  // of what is constant but for a while, that while is what matters
    if (all[0] > least - 0.8 * usual) least = all[0];
    if (all[1] < most + 0.8 * usual) most = all[1];
    // What is all but constant is shown as such, not blown up to its rounding.
    const spread = Math.max(most - least, Math.abs(most) * 2e-4) || 1;
    for (const limit of [low, high]) {
      if (limit != null && limit >= least - 0.8 * spread && limit <= most + 0.8 * spread) { least = Math.min(least, limit); most = Math.max(most, limit); }
    }
    return { y: [least - 0.06 * spread, most + 0.06 * spread], all };
  }

  // Where the name of a limit stands: beside its line, outside of the limits if it can, where no line or band runs through it.
  function clear(u, width, y, high) {
    const { bbox } = u, ratio = devicePixelRatio, tall = 14 * ratio, wide = width + 8 * ratio;
    const drawn = u.data.slice(1), lefts = [];
    for (let x = bbox.left + 6 * ratio; x + wide < bbox.left + bbox.width; x += 20 * ratio) lefts.push(x);
    const inside = (top) => top > bbox.top && top + tall < bbox.top + bbox.height;
    const tops = (high ? [y - tall - 2 * ratio, y + 2 * ratio] : [y + 2 * ratio, y - tall - 2 * ratio]).filter(inside);
    const met = (x, top) => {
      const first = u.posToIdx((x - bbox.left) / ratio), last = u.posToIdx((x + wide - bbox.left) / ratio);
      let upper = Infinity, lower = -Infinity;  // of all that is drawn there, pixels from the top
      for (const values of drawn) for (let i = first; i <= last; i++) if (values[i] != null) { const at = u.valToPos(values[i], "y", true); upper = Math.min(upper, at); lower = Math.max(lower, at); }
      return Math.max(0, Math.min(lower, top + tall) - Math.max(upper, top));
    };
    let best = [Infinity, lefts[0] ?? bbox.left, tops[0] ?? y];
    for (const top of tops) for (const x of lefts) { const overlap = met(x, top); if (overlap < best[0]) best = [overlap, x, top]; }
    return [best[1], best[2] + tall - 4 * ratio];
  }

  function marks(chart, shown) {
    return (u) => {
      const { ctx, bbox } = u, ratio = devicePixelRatio;
      ctx.save();
      ctx.textAlign = "left"; ctx.textBaseline = "alphabetic";
      ctx.beginPath(); ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height); ctx.clip();
      // An outage is a light field, an alarm a stripe along the top, an alert one along the bottom with a flag where it begins.
      for (const [begin, end, what, kind] of chart.spans) {
        const left = Math.max(u.valToPos(begin, "x", true), bbox.left), right = u.valToPos(end, "x", true);
        const width = Math.max(right - left, 2 * ratio), stripe = 4 * ratio, bottom = bbox.top + bbox.height;
        ctx.fillStyle = colour(`--${kind}`);
        if (kind === "outage") {
          ctx.fillRect(left, bbox.top, width, bbox.height);
          if (!chart.small) { ctx.fillStyle = colour("--quiet"); ctx.font = `${11 * ratio}px sans-serif`; ctx.fillText(what, left + 3 * ratio, bbox.top + 12 * ratio); }
        }
        if (kind === "alarm") ctx.fillRect(left, bbox.top, width, stripe);
        if (kind !== "alert") continue;
        ctx.fillRect(left, bottom - stripe, width, stripe);
        ctx.beginPath(); ctx.moveTo(left, bottom - 4 * stripe); ctx.lineTo(left + 2.5 * stripe, bottom - 3 * stripe); ctx.lineTo(left, bottom - 2 * stripe); ctx.fill();
        ctx.fillRect(left, bottom - 4 * stripe, 1.5 * ratio, 4 * stripe);
      }
      if (chart.origin != null) {
        const x = u.valToPos(chart.origin, "x", true);
        ctx.strokeStyle = colour("--quiet"); ctx.lineWidth = 1.5 * ratio; ctx.setLineDash([2 * ratio, 3 * ratio]);
        ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
        if (!chart.small) { ctx.fillStyle = colour("--quiet"); ctx.font = `${11 * ratio}px sans-serif`; ctx.fillText("origin", x + 4 * ratio, bbox.top + bbox.height - 24 * ratio); }
      }
      ctx.strokeStyle = colour("--limit"); ctx.lineWidth = 1.5 * ratio; ctx.setLineDash([6 * ratio, 4 * ratio]);
      for (const [limit, name] of [[chart.high, "high limit"], [chart.low, "low limit"]]) {
        if (limit == null) continue;
        const y = u.valToPos(limit, "y", true);
        ctx.beginPath(); ctx.moveTo(bbox.left, y); ctx.lineTo(bbox.left + bbox.width, y); ctx.stroke();
        if (!chart.small && y > bbox.top && y < bbox.top + bbox.height) {
          ctx.fillStyle = colour("--limit"); ctx.font = `${11 * ratio}px sans-serif`;
          const text = `${name} ${plain.format(limit)} ${chart.unit}`, [x, base] = clear(u, ctx.measureText(text).width, y, name === "high limit");
          ctx.fillText(text, x, base);
        }
      }
      ctx.fillStyle = colour("--quiet"); ctx.font = `${11 * ratio}px sans-serif`;
      const beside = bbox.left + (chart.small ? 6 : 150) * ratio;  // the names of limits
      if (shown.all[0] < shown.y[0]) ctx.fillText(`↓ down to ${plain.format(shown.all[0])} ${chart.unit}`, beside, bbox.top + bbox.height - 20 * ratio);
      if (shown.all[1] > shown.y[1]) ctx.fillText(`↑ up to ${plain.format(shown.all[1])} ${chart.unit}`, beside, bbox.top + 24 * ratio);
      ctx.restore();
    };
  }

  function draw(figure) {
    const place = figure.querySelector(".plot"), chart = JSON.parse(figure.querySelector("script.numbers").textContent);
    const ahead = "q50" in chart;
    const times = Array.from({ length: chart.steps }, (_, i) => chart.start + i * chart.step);
    const data = [times, ...(ahead ? [chart.q95, chart.q05, chart.q90, chart.q10] : []), chart.observed, ...(ahead ? [chart.q50] : [])];
    const ink = colour("--ink"), blue = colour("--forecast"), line = colour("--line"), quiet = colour("--quiet");
    const value = (u, v) => v == null ? "–" : plain.format(v);
    const edge = (label) => ({ label, stroke: "transparent", width: 0, value, points: { show: false } });
    const series = [{ value: (u, t) => t == null ? "–" : new Intl.DateTimeFormat("en-GB", { timeZone: chart.zone, day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }).format(t * 1000), label: chart.zone }];
    if (ahead) series.push(edge("95 %"), edge("5 %"), edge("90 %"), edge("10 %"));
    series.push({ label: "observed", stroke: ink, width: chart.small ? 1 : 1.4, value, points: { show: false } });
    if (ahead) series.push({ label: "median", stroke: blue, width: chart.small ? 1.5 : 2, value, points: { show: false } });
    const axis = { stroke: quiet, grid: { stroke: line, width: 0.6 }, ticks: { stroke: line, width: 0.6 }, font: "12px system-ui, sans-serif" };
    const first = ahead ? chart.q50.findIndex((v) => v != null) : -1;
    const shown = range(data, chart.observed, chart.low, chart.high);
    [figure.dataset.least, figure.dataset.most] = shown.y;
    const height = chart.small ? 150 : Math.max(260, Math.min(400, innerHeight * 0.45));
    const options = {
      width: place.clientWidth, height, series,
      tzDate: (t) => uPlot.tzDate(new Date(t * 1000), chart.zone),
      scales: { y: { range: () => shown.y } },
      axes: [{ ...axis, space: 70, size: chart.small ? 28 : 50, values: [[86400, "{D} {MMM}", null, null, null, null, null, null, 1], [3600, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1], [60, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1]] },
             { ...axis, size: (u, labels) => Math.max(chart.small ? 64 : 46, 16 + 7 * Math.max(0, ...(labels || []).map((l) => l.length))), label: chart.small ? undefined : chart.unit, labelSize: 18, labelFont: "12px system-ui, sans-serif", values: (u, ticks, i, space, step) => ticks.map(fixed(step)) }],
      bands: ahead ? [{ series: [1, 2], fill: colour("--band90") }, { series: [3, 4], fill: colour("--band80") }] : [],
      legend: { show: !chart.small, live: true },
      cursor: { sync: { key: axes.key, setSeries: false }, drag: { x: true, y: false } },
      // Until somebody points at an instant, the numbers are those of the first step ahead.
      hooks: { drawAxes: [marks(chart, shown)], ready: [(u) => { if (!chart.small && first >= 0) u.setLegend({ idx: first }); }] },
    };
    place.replaceChildren();
    drawn.set(figure, new uPlot(options, data, place));
  }

  function drawAll() {
    for (const [figure, plot] of drawn) { plot.destroy(); drawn.delete(figure); }
    for (const figure of document.querySelectorAll("figure.chart")) draw(figure);
  }

  function wire() {
    for (const slider of document.querySelectorAll("input[data-slides]")) {
      const choices = document.getElementById(slider.dataset.slides), last = choices.options.length - 1;
      slider.value = last - choices.selectedIndex;
      slider.closest("label").hidden = false;
      slider.addEventListener("input", () => { choices.selectedIndex = last - slider.value; slider.setAttribute("aria-valuetext", choices.selectedOptions[0].text); });
    }
  }

  function begin() { drawAll(); wire(); }
  let resized;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(drawAll, 150); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  document.addEventListener("htmx:after:swap", begin);
  begin();
})();

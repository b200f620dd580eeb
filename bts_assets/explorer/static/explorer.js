// Draws the charts from the numbers beside them, and turns lists of nights into sliders. Every page works without it.
"use strict";
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axes = uPlot.sync("time");
  const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }), whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const plain = { format: (v) => (Math.abs(v) < 1000 ? short : whole).format(v) };
  const drawn = new Map();
  const fixed = (digits) => (v) => v.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  // As many decimals as tell one tick from the next.
  const between = (step) => fixed((String(step).split(".")[1] || "").length);

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

  function marks(chart) {
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
        const edge = bbox.left + bbox.width, pole = Math.min(left, edge - 1.5 * ratio), flag = left + 2.5 * stripe > edge ? -2.5 * stripe : 2.5 * stripe;
        ctx.beginPath(); ctx.moveTo(pole, bottom - 4 * stripe); ctx.lineTo(pole + flag, bottom - 3 * stripe); ctx.lineTo(pole, bottom - 2 * stripe); ctx.fill();
        ctx.fillRect(pole, bottom - 4 * stripe, 1.5 * ratio, 4 * stripe);
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
      ctx.restore();
    };
  }

  // What the axis leaves out is named where the line leaves the chart, on a ground of its own.
  function far(chart) {
    return (u) => {
      const { ctx, bbox } = u, ratio = devicePixelRatio;
      ctx.save();
      ctx.textAlign = "left"; ctx.textBaseline = "alphabetic"; ctx.font = `${11 * ratio}px sans-serif`;
      for (const [when, value] of chart.far) {
        const up = value > chart.axis[1], text = `${up ? "↑ up to" : "↓ down to"} ${plain.format(value)} ${chart.unit}`;
        const wide = ctx.measureText(text).width, right = bbox.left + bbox.width - wide - 4 * ratio;
        const x = Math.min(u.valToPos(when, "x", true) + 5 * ratio, right), y = up ? bbox.top + 24 * ratio : bbox.top + bbox.height - 8 * ratio;
        ctx.fillStyle = colour("--paper"); ctx.fillRect(x - 2 * ratio, y - 11 * ratio, wide + 4 * ratio, 14 * ratio);
        ctx.fillStyle = colour("--quiet"); ctx.fillText(text, x, y);
      }
      ctx.restore();
    };
  }

  function draw(figure) {
    const place = figure.querySelector(".plot"), chart = JSON.parse(figure.querySelector("script.numbers").textContent);
    const ahead = "q50" in chart;
    const times = Array.from({ length: chart.steps }, (_, i) => chart.start + i * chart.step);
    const data = [times, ...(ahead ? [chart.q95, chart.q05, chart.q90, chart.q10] : []), chart.observed, ...(ahead ? [chart.q50] : [])];
    const ink = colour("--ink"), blue = colour("--forecast"), line = colour("--line"), quiet = colour("--quiet");
    const digits = fixed(chart.decimals), value = (u, v) => v == null ? "–" : digits(v);
    const edge = (label) => ({ label, stroke: "transparent", width: 0, value, points: { show: false } });
    const series = [{ value: (u, t) => t == null ? "–" : new Intl.DateTimeFormat("en-GB", { timeZone: chart.zone, day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }).format(t * 1000), label: chart.zone }];
    if (ahead) series.push(edge("95 %"), edge("5 %"), edge("90 %"), edge("10 %"));
    series.push({ label: "observed", stroke: ink, width: chart.small ? 1 : 1.4, value, points: { show: false } });
    if (ahead) series.push({ label: "median", stroke: blue, width: chart.small ? 1.5 : 2, value, points: { show: false } });
    const axis = { stroke: quiet, grid: { stroke: line, width: 0.6 }, ticks: { stroke: line, width: 0.6 }, font: "12px system-ui, sans-serif" };
    const first = ahead ? chart.q50.findIndex((v) => v != null) : -1;
    const height = chart.small ? 150 : Math.max(260, Math.min(400, innerHeight * 0.45));
    const options = {
      width: place.clientWidth, height, series,
      tzDate: (t) => uPlot.tzDate(new Date(t * 1000), chart.zone),
      scales: { y: { range: () => chart.axis } },
      axes: [{ ...axis, space: 70, size: chart.small ? 28 : 50, values: [[86400, "{D} {MMM}", null, null, null, null, null, null, 1], [3600, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1], [60, "{HH}:{mm}", "\n{D} {MMM}", null, "\n{D} {MMM}", null, null, null, 1]] },
             { ...axis, space: chart.small ? 18 : 30, size: (u, labels) => Math.max(chart.small ? 64 : 46, 16 + 7 * Math.max(0, ...(labels || []).map((l) => l.length))), label: chart.small ? undefined : chart.unit, labelSize: 18, labelFont: "12px system-ui, sans-serif", values: (u, ticks, i, space, step) => ticks.map(between(step)) }],
      bands: ahead ? [{ series: [1, 2], fill: colour("--band90") }, { series: [3, 4], fill: colour("--band80") }] : [],
      legend: { show: !chart.small, live: true },
      cursor: { sync: { key: axes.key, setSeries: false }, drag: { x: true, y: false } },
      // Until somebody points at an instant, the numbers are those of the first step ahead.
      hooks: { drawAxes: [marks(chart)], draw: [far(chart)], ready: [(u) => { if (!chart.small && first >= 0) u.setLegend({ idx: first }); }] },
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

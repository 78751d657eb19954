"use strict";
(() => {
  const root = document.documentElement;
  const dark = () => root.dataset.mode ? root.dataset.mode === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.getElementById("mode").addEventListener("click", () => { root.dataset.mode = dark() ? "light" : "dark"; });

  // Tables sort by the column that is clicked; numbers that are missing come last either way.
  for (const head of document.querySelectorAll("th button")) head.addEventListener("click", () => {
    const th = head.parentElement, row = th.parentElement, body = th.closest("table").tBodies[0];
    const at = [...row.children].indexOf(th), numeric = th.classList.contains("n");
    const first = numeric ? "descending" : "ascending", second = numeric ? "ascending" : "descending";
    const order = th.getAttribute("aria-sort") === first ? second : first;
    for (const other of row.children) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const key = tr => numeric ? parseFloat(tr.children[at].dataset.v) : tr.children[at].textContent;
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (!numeric) return sign * x.localeCompare(y, undefined, { numeric: true });
      return isNaN(x) - isNaN(y) || sign * (x - y) || 0;
    };
    body.append(...[...body.rows].sort(compare));
  });

  const save = (name, blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  // All panels of a figure as one SVG, with the colours that the page shows now.
  const compose = figure => {
    const panels = [...figure.querySelectorAll(".panels > div")].map(div => [div.querySelector("h4").textContent, div.querySelector("svg")]);
    const [width, height] = panels[0][1].getAttribute("viewBox").split(" ").slice(2).map(Number);
    const columns = Math.min(3, panels.length), rows = Math.ceil(panels.length / columns), gap = 12, top = 18;
    const space = "http://www.w3.org/2000/svg", all = document.createElementNS(space, "svg");
    const w = columns * (width + gap), h = rows * (height + gap + top);
    const styles = getComputedStyle(root), colour = name => styles.getPropertyValue(name).trim();
    all.setAttribute("viewBox", `0 0 ${w} ${h}`); all.setAttribute("width", w); all.setAttribute("height", h);
    const back = document.createElementNS(space, "rect");
    back.setAttribute("width", w); back.setAttribute("height", h); back.setAttribute("fill", colour("--paper"));
    all.append(back);
    panels.forEach(([title, svg], k) => {
      const x = (k % columns) * (width + gap), y = Math.floor(k / columns) * (height + gap + top);
      const text = document.createElementNS(space, "text"), copy = svg.cloneNode(true);
      text.setAttribute("x", x + 4); text.setAttribute("y", y + 12); text.setAttribute("fill", colour("--ink"));
      text.setAttribute("style", "font: bold 10px sans-serif"); text.textContent = title;
      copy.setAttribute("x", x); copy.setAttribute("y", y + top); copy.setAttribute("width", width); copy.setAttribute("height", height);
      copy.setAttribute("font-family", "sans-serif");
      all.append(text, copy);
    });
    const source = new XMLSerializer().serializeToString(all).replace(/var\((--\w+)\)/g, (_, name) => colour(name));
    return { source, w, h };
  };

  for (const button of document.querySelectorAll("[data-save]")) button.addEventListener("click", () => {
    const figure = button.closest("figure"), kind = button.dataset.save, name = `${figure.id}.${kind}`;
    if (kind === "csv") {
      const packed = Uint8Array.from(atob(figure.querySelector("script").textContent), c => c.charCodeAt(0));
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
      return new Response(stream).text().then(text => save(name, new Blob([text], { type: "text/csv" })));
    }
    const { source, w, h } = compose(figure), blob = new Blob([source], { type: "image/svg+xml" });
    if (kind === "svg") return save(name, blob);
    const image = new Image(), canvas = document.createElement("canvas");
    canvas.width = 2 * w; canvas.height = 2 * h;
    image.onload = () => { canvas.getContext("2d").drawImage(image, 0, 0, 2 * w, 2 * h); canvas.toBlob(png => save(name, png)); };
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(source);
  });

  // Folded panels are printed; folded tables are long, and stay shut.
  addEventListener("beforeprint", () => document.querySelectorAll("figure details").forEach(d => { d.open = true; }));
})();

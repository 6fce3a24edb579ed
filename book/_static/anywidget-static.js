// Gives the anywidgets of a rendered page their life without a kernel, a server, or a network.
// myst-nb embeds the widgets' state as JSON and each view as a small script element; here a state
// becomes a model (get, set, on, off, save_changes), its `_esm` is imported from a Blob URL, which
// works from file:// as well, and `render` is handed the place of the view.
(() => {
  "use strict";

  const parse = (script) => {
    const value = JSON.parse(script.textContent);
    return typeof value === "string" ? JSON.parse(value) : value;
  };

  /** The widget's state with its binary buffers put back, as DataViews, where their paths say. */
  const restore = ({ state, buffers = [] }) => {
    for (const { data, path } of buffers) {
      const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
      const owner = path.slice(0, -1).reduce((part, key) => part[key], state);
      owner[path.at(-1)] = new DataView(bytes.buffer);
    }
    return state;
  };

  const makeModel = (state) => {
    const listeners = new Map();
    const emit = (event, ...values) => {
      for (const call of [...(listeners.get(event) ?? [])]) call(...values);
    };
    const model = {
      get: (key) => state[key],
      set(key, value) {
        if (state[key] === value) return;
        state[key] = value;
        emit(`change:${key}`, model, value);
        emit("change", model);
      },
      on(event, call) {
        listeners.set(event, [...(listeners.get(event) ?? []), call]);
      },
      off(event, call) {
        listeners.set(event, call ? (listeners.get(event) ?? []).filter((f) => f !== call) : []);
      },
      save_changes() {}, // nobody is listening: there is no kernel
      send() {},
    };
    return model;
  };

  const modules = new Map(); // one import for each distinct source on the page
  const load = (source) => {
    if (!modules.has(source)) {
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      modules.set(source, import(url).finally(() => URL.revokeObjectURL(url)));
    }
    return modules.get(source);
  };

  const styles = new Set();
  const addStyle = (text) => {
    if (!text || styles.has(text)) return;
    styles.add(text);
    document.head.append(Object.assign(document.createElement("style"), { textContent: text }));
  };

  const start = async () => {
    const widgets = {};
    for (const script of document.querySelectorAll('script[type="application/vnd.jupyter.widget-state+json"]')) {
      Object.assign(widgets, parse(script).state);
    }
    const models = new Map();
    for (const script of document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')) {
      const id = parse(script).model_id;
      const source = widgets[id]?.state?._esm;
      if (!source) continue; // not an anywidget: its printed form stays
      if (!models.has(id)) models.set(id, makeModel(restore(widgets[id])));
      const model = models.get(id);
      addStyle(model.get("_css"));
      let widget = (await load(source)).default;
      if (typeof widget === "function") widget = await widget();
      await widget.initialize?.({ model });
      const el = document.createElement("div");
      script.after(el);
      await widget.render({ model, el });
      script.parentElement.classList.add("anywidget-mounted");
    }
  };

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();

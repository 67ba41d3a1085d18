// Two prompts on one input, side by side, as their tokens come. Everything is shown as text, never as markup.
"use strict";
const at = id => document.getElementById(id);
let running = null;

const headers = () => {
  const token = at("token").value.trim();
  return token ? { "Authorization": "Bearer " + token } : {};
};

async function failure(response) {
  try { return (await response.json()).error.message; }
  catch { return "The server answered with status " + response.status + "."; }
}

async function listPrompts() {
  try {
    const response = await fetch("v1/models", { headers: headers() });
    if (!response.ok) {
      at("summary").textContent = response.status === 401 ? "This server asks for a token: fill it in below." : await failure(response);
      return;
    }
    const models = (await response.json()).data;
    for (const side of ["left", "right"]) {
      const select = at(side + "-prompt"), chosen = select.value;
      const options = models.map(m => new Option(m.prompt_length ? m.id + " (" + m.prompt_length + " rows)" : m.id + " (no prompt)", m.id));
      if (side === "right") options.unshift(new Option("nothing", ""));
      select.replaceChildren(...options);
      if (chosen && models.some(m => m.id === chosen)) select.value = chosen;
      else if (side === "left" && models.length > 1) select.value = models[1].id;
    }
    const prompts = models.filter(m => m.prompt_length).length;
    at("summary").textContent = prompts + (prompts === 1 ? " prompt" : " prompts") + " on one frozen model.";
  } catch {
    at("summary").textContent = "The server cannot be reached.";
  }
}

async function answer(side, signal) {
  const model = at(side + "-prompt").value, output = at(side + "-answer"), figures = at(side + "-figures");
  output.textContent = ""; output.classList.remove("error"); figures.textContent = "";
  if (!model) return;
  const start = performance.now();
  let first = 0, usage = null, finish = "";
  try {
    const response = await fetch("v1/completions", {
      method: "POST", signal, headers: { "Content-Type": "application/json", ...headers() },
      body: JSON.stringify({
        model, prompt: at("text").value, max_tokens: +at("max-tokens").value, temperature: +at("temperature").value, seed: +at("seed").value,
        stream: true, stream_options: { include_usage: true },
      }),
    });
    if (!response.ok) throw new Error(await failure(response));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) break;
      rest += value;
      for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
        const data = rest.slice(0, end).replace(/^data: /, "");
        if (data === "[DONE]") continue;
        const part = JSON.parse(data);
        if (part.error) throw new Error(part.error.message);
        if (part.usage) usage = part.usage;
        for (const choice of part.choices) {
          if (!first) first = performance.now();
          output.textContent += choice.text;
          if (choice.finish_reason) finish = choice.finish_reason;
        }
      }
    }
    if (!output.textContent) output.textContent = "(an empty answer)";
    figures.textContent = usage.completion_tokens + (usage.completion_tokens === 1 ? " token" : " tokens") + ", first text after " + Math.round(first - start) + " ms, all after "
      + Math.round(performance.now() - start) + " ms" + (finish === "length" ? ", cut at the most tokens" : "");
  } catch (error) {
    if (error.name === "AbortError") { figures.textContent = "stopped"; return; }
    output.textContent = error.message;
    output.classList.add("error");
  }
}

at("form").addEventListener("submit", async event => {
  event.preventDefault();
  if (running) running.abort();
  const mine = running = new AbortController();
  at("stop").disabled = false;
  await Promise.all([answer("left", mine.signal), answer("right", mine.signal)]);
  if (running === mine) { running = null; at("stop").disabled = true; }
});
at("stop").addEventListener("click", () => running?.abort());
at("text").addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("form").requestSubmit();
});
at("token").addEventListener("change", listPrompts);
listPrompts();

// OpenAI's own client library against the server, as its users call it. Prints what it got; ClientLibraryTests.cs compares.
import OpenAI from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const models = [];
for await (const model of client.models.list()) models.push(model.id);
const one = await client.models.retrieve("p1");
const request = { model: "p1", prompt: ["[wiki_split] The cat sat on the mat .", "x"], n: 2, max_tokens: 12, temperature: 0.7, seed: 5, logprobs: 2, stop: ["zzz"] };
const whole = await client.completions.create(request);
const parts = [];
for await (const part of await client.completions.create({ ...request, stream: true, stream_options: { include_usage: true } })) parts.push(part);
const errors = [];
for (const bad of [{ model: "nobody", prompt: "x" }, { model: "p1", prompt: "x", max_tokens: 0 }]) {
  try { await client.completions.create(bad); errors.push("none"); }
  catch (e) { errors.push({ kind: e.constructor.name, status: e.status, code: e.code, param: e.param, message: e.message }); }
}
const stranger = new OpenAI({ baseURL, apiKey: "a wrong key that is long", maxRetries: 0 });
try { await stranger.models.list(); errors.push("none"); }
catch (e) { errors.push({ kind: e.constructor.name, status: e.status }); }
// Given up after the first part. min_tokens keeps the answer from ending first: undici 6 (Node 20, 22) never settles a read whose answer was complete
// when it was aborted (nodejs/undici#4089), and node then ends with 13.
const abort = new AbortController();
let heard = 0;
for await (const part of await client.completions.create({ model: "p0", prompt: "x", max_tokens: 50000, min_tokens: 49999, stream: true }, { signal: abort.signal }))
  if (++heard === 1) abort.abort();
console.log(JSON.stringify({ models, one, whole, parts, errors, heard }));

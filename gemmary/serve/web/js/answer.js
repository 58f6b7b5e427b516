// One answer of the server: what is asked, and what comes back while it is made.

import { call, events, ApiError, sentence, GONE } from "./api.js";
import { dataUrls } from "./pictures.js";
import { picturesOf, textOf } from "./tree.js";

/** Messages in the API's shape. */
async function messagesOf(conversation, system, path) {
  const messages = system.trim() ? [{ role: "system", content: system }] : [];
  for (const message of path.filter((one) => one.content.some((part) => part.text !== ""))) messages.push({ role: message.role, content: await contentOf(conversation, message) });
  return messages;
}

async function contentOf(conversation, message) {
  const pictures = picturesOf(message);
  if (!pictures.length) return textOf(message);
  const urls = await dataUrls(conversation, pictures.map((picture) => picture.id));
  return [
    ...urls.map((url) => ({ type: "image_url", image_url: { url } })),
    { type: "text", text: textOf(message) },
  ];
}

function asked(model, settings, messages) {
  const body = { model, messages, stream: true, stream_options: { include_usage: true }, return_progress: true };
  for (const [name, value] of Object.entries(settings)) {
    if (typeof value === "number" || value === true) body[name] = value;
  }
  return body;
}

/**
 * Ask. `told.reading({processed, total})`, `told.text(piece)`. Gives {finish, usage, timings, first}:
 * finish "cut" when the stream broke, "cancelled" when `signal` was raised; first: ms to the first text.
 */
export async function answer({ conversation, model, system, settings, path, signal, told }) {
  const messages = await messagesOf(conversation, system, path);
  const began = performance.now();
  const got = { finish: null, usage: null, timings: null, first: null };
  try {
    const response = await call("/v1/chat/completions", {
      method: "POST", json: asked(model, settings, messages), signal,
    });
    for await (const event of events(response)) take(event, got, told, began);
  } catch (error) {
    if (error.name === "AbortError") return { ...got, finish: "cancelled" };
    if (error instanceof ApiError) throw error;
    got.broken = GONE;
  }
  if (!got.finish) got.finish = "cut";
  return got;
}

function take(event, got, told, began) {
  if (event.error) {
    throw new ApiError(500, sentence(event.error.message), event.error.code ?? null);
  }
  if (event.prompt_progress) told.reading(event.prompt_progress);
  const choice = event.choices?.[0];
  if (choice?.delta?.content) {
    got.first ??= performance.now() - began;
    told.text(choice.delta.content);
  }
  if (choice?.finish_reason) got.finish = choice.finish_reason;
  if (event.timings) got.timings = event.timings;
  if (event.usage) got.usage = event.usage;
}

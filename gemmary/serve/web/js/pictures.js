// Pictures: made ready in the browser (upright, without the camera's notes, not huge), shown with their crops.

import { call, json, ApiError } from "./api.js";
import { el } from "./element.js";

const LONGEST_SIDE = 3584; // four squares of 896, the finest that pan & scan shows
const MOST_BYTES = 4_000_000;
const MOST_ALL = 24_000_000; // of all pictures in a request

const kept = new Map(); // id -> Promise<Blob>
const urls = new Map();
const boxes = new Map(); // "WxH" -> Promise<boxes>

/** A file as {blob, url, width, height, name}; ApiError says why not. */
export async function prepared(file) {
  let image;
  try {
    image = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new ApiError(400, `${file.name || "This"} is no picture that can be read here: use PNG, JPEG or WebP.`);
  }
  const scale = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
  let blob = null;
  for (let size = scale; !blob || blob.size > MOST_BYTES; size *= 0.75) blob = await drawn(image, size, file.type);
  const { width, height } = await sizeOf(blob);
  image.close();
  return { blob, url: URL.createObjectURL(blob), width, height, name: (file.name || "pasted").slice(0, 200) };
}

async function drawn(image, scale, type) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  if (type === "image/jpeg") return jpeg(pen, image, canvas);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  const png = await toBlob(canvas, "image/png");
  return png.size <= MOST_BYTES ? png : jpeg(pen, image, canvas);
}

function jpeg(pen, image, canvas) {
  pen.fillStyle = "#fff"; // what is transparent lies on white, as the model sees it
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  return toBlob(canvas, "image/jpeg");
}

const toBlob = (canvas, type) => new Promise((resolve, reject) =>
  canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new ApiError(400, "The picture is too large."))), type, 0.92));

async function sizeOf(blob) {
  const image = await createImageBitmap(blob);
  const size = { width: image.width, height: image.height };
  image.close();
  return size;
}

/** Keep a prepared picture in a conversation: its part of a message. */
export async function uploaded(conversation, picture, history) {
  const { blob, name, width, height } = picture;
  const { id } = history
    ? await json(`/api/conversations/${conversation}/pictures`, { method: "POST", body: blob, type: blob.type })
    : { id: picture.url.slice(-36) };
  kept.set(id, Promise.resolve(blob));
  return { type: "picture", id, name, width, height };
}

/** The blob of a picture in a message. */
export function blobOf(conversation, id) {
  if (!kept.has(id)) {
    const loading = call(`/api/conversations/${conversation}/pictures/${id}`).then((response) => response.blob());
    loading.catch(() => kept.delete(id));
    kept.set(id, loading);
  }
  return kept.get(id);
}

/** Its address in this page. */
export function urlOf(conversation, id) {
  if (!urls.has(id)) {
    const url = blobOf(conversation, id).then((blob) => URL.createObjectURL(blob));
    url.catch(() => urls.delete(id));
    urls.set(id, url);
  }
  return urls.get(id);
}

/** Data URLs for a request. */
export async function dataUrls(conversation, ids) {
  const blobs = await Promise.all(ids.map((id) => blobOf(conversation, id)));
  if (blobs.reduce((sum, blob) => sum + blob.size, 0) > MOST_ALL) {
    throw new ApiError(413, "The pictures of this chat are too many for one question: begin a new chat.");
  }
  return Promise.all(blobs.map(dataUrl));
}

const dataUrl = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(blob);
});

/** What pan & scan cuts out of a picture of this size. */
export function cropsOf(width, height) {
  const size = `width=${width}&height=${height}`;
  if (!boxes.has(size)) {
    boxes.set(size, json(`/api/crops?${size}`).then((found) => found.boxes).catch(() => (boxes.delete(size), [])));
  }
  return boxes.get(size);
}

/** A picture, with lines where it is cut and the crops beside it when `cut`. `source` gives its address. */
export function shown({ width, height, name }, source, cut, [widest, highest] = [420, 320]) {
  const scale = Math.min(1, widest / width, highest / height);
  const image = el("img", {
    alt: name || "picture", width: Math.ceil(width * scale), height: Math.ceil(height * scale), decoding: "async",
  });
  const frame = el("span.picture", {}, image);
  const ready = source.then((url) => {
    image.src = url;
    return image.decode();
  });
  ready.catch(() => frame.classList.add("missing"));
  if (!cut) return [frame];
  const strip = el("span.crops", { role: "img", "aria-label": "Crops" });
  cropsOf(width, height).then(async (found) => {
    if (!found.length) return strip.remove();
    strip.setAttribute("aria-label", `${found.length} crops that the model sees too`);
    for (const [left, top, right, bottom] of found) {
      const line = el("i.cut");
      line.style.left = `${(100 * left) / width}%`;
      line.style.top = `${(100 * top) / height}%`;
      line.style.width = `${(100 * (right - left)) / width}%`;
      line.style.height = `${(100 * (bottom - top)) / height}%`;
      frame.append(line);
    }
    await ready;
    strip.append(...found.map((box) => crop(image, box)));
  }).catch(() => {});
  return [frame, strip];
}

const CROP = 112; // pixels that a crop's longer side is drawn with

function crop(image, [left, top, right, bottom]) {
  const scale = CROP / Math.max(right - left, bottom - top);
  const canvas = el("canvas.crop", { width: (right - left) * scale, height: (bottom - top) * scale });
  canvas.getContext("2d").drawImage(image, left, top, right - left, bottom - top, 0, 0, canvas.width, canvas.height);
  return canvas;
}

// Objects as the API server keeps them: plain JSON.

export type Json = Record<string, unknown>;

export function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The object under a key; an empty one, not linked to the parent, when there is none. */
export function child(object: Json, key: string): Json {
  const value = object[key];
  return isJson(value) ? value : {};
}

/** The object under a key, put there when there is none. */
export function ensure(object: Json, key: string): Json {
  const value = object[key];
  if (isJson(value)) return value;
  const made: Json = {};
  object[key] = made;
  return made;
}

export function text(object: Json, key: string): string | undefined {
  const value = object[key];
  return typeof value === 'string' ? value : undefined;
}

export function list(object: Json, key: string): unknown[] {
  const value = object[key];
  return Array.isArray(value) ? value : [];
}

export function copy(object: Json): Json {
  return structuredClone(object);
}

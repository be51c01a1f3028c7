// What is read of an object of the API before its kind matters.

export interface RawObject {
  readonly namespace: string;
  readonly name: string;
  readonly resourceVersion: string;
}

/** Undefined when it is no object with a name. */
export function readRawObject(value: unknown): RawObject | undefined {
  const metadata = fieldOf(value, 'metadata');
  const name = textOf(metadata, 'name');
  if (!name) return undefined;
  return {
    namespace: textOf(metadata, 'namespace') ?? '',
    name,
    resourceVersion: textOf(metadata, 'resourceVersion') ?? '',
  };
}

export function fieldOf(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  return Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;
}

export function textOf(value: unknown, name: string): string | undefined {
  const found = fieldOf(value, name);
  return typeof found === 'string' ? found : undefined;
}

/** Undefined for text that is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

// Merge patch (RFC 7386) and JSON patch (RFC 6902).

import { copy, isJson, type Json } from './json.ts';

export function mergePatch(target: Json, patch: Json): Json {
  const result = { ...target };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else if (isJson(value)) {
      const old = result[key];
      result[key] = mergePatch(isJson(old) ? old : {}, value);
    } else result[key] = value;
  }
  return result;
}

/** Undefined when an operation cannot be applied, or a test fails; then nothing of the patch is. */
export function jsonPatch(target: Json, operations: unknown): Json | undefined {
  if (!Array.isArray(operations)) return undefined;
  let result: unknown = copy(target);
  for (const operation of operations as readonly unknown[]) {
    const applied = isJson(operation) ? applyOperation(result, operation) : undefined;
    if (!applied) return undefined;
    result = applied.value;
  }
  return isJson(result) ? result : undefined;
}

interface Applied {
  readonly value: unknown;
}

function applyOperation(root: unknown, operation: Json): Applied | undefined {
  const path = pointer(operation['path']);
  if (!path) return undefined;
  const value = structuredClone(operation['value']);
  switch (operation['op']) {
    case 'test': {
      const found = read(root, path);
      return found && JSON.stringify(found.value) === JSON.stringify(value) ? { value: root } : undefined;
    }
    case 'add':
      return write(root, path, value, 'add');
    case 'replace':
      return read(root, path) && write(root, path, value, 'replace');
    case 'remove':
      return remove(root, path);
    case 'move':
    case 'copy': {
      const from = pointer(operation['from']);
      const found = from && read(root, from);
      if (!from || !found) return undefined;
      const moved = structuredClone(found.value);
      const rest = operation['op'] === 'move' ? remove(root, from) : { value: root };
      return rest && write(rest.value, path, moved, 'add');
    }
    default:
      return undefined;
  }
}

/** RFC 6901. */
function pointer(value: unknown): readonly string[] | undefined {
  if (typeof value !== 'string' || (value !== '' && !value.startsWith('/'))) return undefined;
  return value
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function read(root: unknown, path: readonly string[]): Applied | undefined {
  let value = root;
  for (const key of path) {
    if (Array.isArray(value)) {
      if (!/^(0|[1-9][0-9]*)$/.test(key) || Number(key) >= value.length) return undefined;
      value = value[Number(key)] as unknown;
    } else if (isJson(value) && Object.hasOwn(value, key)) value = value[key];
    else return undefined;
  }
  return { value };
}

function write(root: unknown, path: readonly string[], value: unknown, mode: 'add' | 'replace'): Applied | undefined {
  const key = path.at(-1);
  if (key === undefined) return { value };
  const parent = read(root, path.slice(0, -1))?.value;
  if (Array.isArray(parent)) {
    const index = key === '-' ? parent.length : Number(key);
    if (!Number.isInteger(index) || index < 0 || index > parent.length) return undefined;
    parent.splice(index, mode === 'replace' ? 1 : 0, value);
  } else if (isJson(parent)) parent[key] = value;
  else return undefined;
  return { value: root };
}

function remove(root: unknown, path: readonly string[]): Applied | undefined {
  const key = path.at(-1);
  if (key === undefined || !read(root, path)) return undefined;
  const parent = read(root, path.slice(0, -1))?.value;
  if (Array.isArray(parent)) parent.splice(Number(key), 1);
  else if (isJson(parent)) delete parent[key];
  return { value: root };
}

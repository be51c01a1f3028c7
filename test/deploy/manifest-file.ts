import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';

/** The one document of a kind in a file of deploy/manifests. Throws where there is none. */
export function manifestFile<Manifest extends { readonly kind: string }>(name: string): (kind: string) => Manifest {
  const file = fileURLToPath(new URL(`../../deploy/manifests/${name}`, import.meta.url));
  const parsed = parseAllDocuments(readFileSync(file, 'utf8'), { uniqueKeys: true });
  const documents = (Array.isArray(parsed) ? parsed : []).map((document) => document.toJS() as Manifest);
  return (kind) => {
    const found = documents.find((each) => each.kind === kind);
    if (!found) throw new Error(`no ${kind} in ${file}`);
    return found;
  };
}

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';

/** The one document of a kind in a file of deploy/manifests; throws where there is none. What it holds is for its reader to know. */
export function manifestFile(name: string): (kind: string) => unknown {
  const file = fileURLToPath(new URL(`../../deploy/manifests/${name}`, import.meta.url));
  const parsed = parseAllDocuments(readFileSync(file, 'utf8'), { uniqueKeys: true });
  const documents = (Array.isArray(parsed) ? parsed : []).map(
    (document) => document.toJS() as { readonly kind: string },
  );
  return (kind) => {
    const found = documents.find((each) => each.kind === kind);
    if (!found) throw new Error(`no ${kind} in ${file}`);
    return found;
  };
}

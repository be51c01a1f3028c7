// Rights as `verb resource.group`: what a role grants, what a server was asked, and a server that gives no more than was granted.

import { route } from '../support/api-server/resource-table.ts';
import type { TestApiServer } from '../support/api-server/server.ts';

export interface Role {
  readonly rules: readonly {
    readonly apiGroups: readonly string[];
    readonly resources: readonly string[];
    readonly verbs: readonly string[];
  }[];
}

export type Rights = ReadonlySet<string>;

export function grantedBy({ rules }: Role): Rights {
  return new Set(
    rules.flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) => resources.flatMap((name) => verbs.map((verb) => `${verb} ${name}.${group}`))),
    ),
  );
}

/** What was asked of the server so far. */
export function usedOf(server: TestApiServer): Rights {
  const verbs: Readonly<Record<string, string>> = { POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };
  return new Set(
    server.requests.map(({ method, path, query }) => {
      const routed = route(path);
      if (routed.kind !== 'target') throw new Error(`${method} ${path} is no resource`);
      const { resource, name, subresource } = routed.target;
      const reading = query.has('watch') ? 'watch' : name === undefined ? 'list' : 'get';
      const what = subresource === undefined ? resource.plural : `${resource.plural}/${subresource}`;
      return `${verbs[method] ?? reading} ${what}.${resource.group}`;
    }),
  );
}

export interface Guard {
  readonly may: (verb: string, resource: string, namespace: string) => boolean;
  /** What was asked for without a right. */
  readonly refused: readonly string[];
}

/** `everywhere` in all namespaces, `within` in one of them. */
export function guardOf(
  everywhere: Rights,
  within: { readonly namespace: string | undefined; readonly rights: Rights } = {
    namespace: undefined,
    rights: new Set(),
  },
): Guard {
  const refused: string[] = [];
  const may = (verb: string, resource: string, namespace: string): boolean => {
    const here = namespace === within.namespace ? within.rights : new Set<string>();
    const allowed = [...everywhere, ...here].some((each) => each.startsWith(`${verb} ${resource}.`));
    if (!allowed) refused.push(`${verb} ${resource} in ${namespace}`);
    return allowed;
  };
  return { may, refused };
}

/** For a comparison that shows what differs. */
export function sorted(rights: Rights): string {
  return [...rights].sort().join('\n');
}

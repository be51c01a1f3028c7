// Label selectors in text form, as the API server takes them: `a=b,c!=d,e in (x,y),f notin (z),g,!h`.

type Requirement =
  | { readonly kind: 'in'; readonly label: string; readonly values: readonly string[] }
  | { readonly kind: 'not-in'; readonly label: string; readonly values: readonly string[] }
  | { readonly kind: 'exists'; readonly label: string }
  | { readonly kind: 'absent'; readonly label: string };

/** All requirements must hold. */
export interface LabelSelector {
  /** As it was written, for the API server. */
  readonly text: string;
  readonly requirements: readonly Requirement[];
}

const NAME = /^(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const VALUE = /^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

/** Undefined for what is no selector. */
export function parseLabelSelector(text: string): LabelSelector | undefined {
  const requirements: Requirement[] = [];
  // Commas within parentheses belong to the values.
  for (const part of text.split(/,(?![^(]*\))/)) {
    const requirement = parseRequirement(part.trim());
    if (!requirement) return undefined;
    requirements.push(requirement);
  }
  return { text, requirements };
}

function parseRequirement(part: string): Requirement | undefined {
  const set = /^(\S+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(part);
  if (set) {
    const values = (set[3] ?? '').split(',').map((value) => value.trim());
    return checked({ kind: set[2] === 'in' ? 'in' : 'not-in', label: set[1] ?? '', values });
  }
  const equality = /^([^\s=!]+)\s*(==|=|!=)\s*([^\s=!]*)$/.exec(part);
  if (equality) {
    const kind = equality[2] === '!=' ? 'not-in' : 'in';
    return checked({ kind, label: equality[1] ?? '', values: [equality[3] ?? ''] });
  }
  if (part.startsWith('!')) return checked({ kind: 'absent', label: part.slice(1).trim() });
  return checked({ kind: 'exists', label: part });
}

function checked(requirement: Requirement): Requirement | undefined {
  const values = 'values' in requirement ? requirement.values : [];
  return NAME.test(requirement.label) && values.every((value) => VALUE.test(value)) ? requirement : undefined;
}

/** An object without the label is in no set, and so satisfies `notin` and `!=`. */
export function selects({ requirements }: LabelSelector, labels: ReadonlyMap<string, string>): boolean {
  return requirements.every((requirement) => {
    const value = labels.get(requirement.label);
    switch (requirement.kind) {
      case 'in':
        return value !== undefined && requirement.values.includes(value);
      case 'not-in':
        return value === undefined || !requirement.values.includes(value);
      case 'exists':
        return value !== undefined;
      case 'absent':
        return value === undefined;
    }
  });
}

// A second reader of HTTP/1.1 requests, naive and of its own making: regular expressions over the whole text. What the
// engine passes on is held against what this one reads on both sides of it.

export interface ReadRequest {
  readonly method: string;
  readonly target: string;
  readonly fields: readonly (readonly [string, string])[];
  readonly body: string;
}

export interface Reading {
  readonly requests: readonly ReadRequest[];
  /** The head of a request whose body is not (or not well) there. */
  readonly open: ReadRequest | undefined;
  /** What follows is no request. */
  readonly malformed: boolean;
}

const LINE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\u0021-\u007e]+) HTTP\/1\.([01])$/;
const FIELD = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\u0020-\u007e\u0080-\u00ff]*)$/;

/** Reads as many whole requests as there are. */
export function readRequests(text: string): Reading {
  const requests: ReadRequest[] = [];
  let rest = text;
  for (;;) {
    if (rest.startsWith('\r\n')) rest = rest.slice(2);
    const end = rest.indexOf('\r\n\r\n');
    if (end < 0) return { requests, open: undefined, malformed: false };
    const head = readHead(rest.slice(0, end));
    if (!head) return { requests, open: undefined, malformed: true };
    const body = readBody(head.fields, rest.slice(end + 4));
    if (body === 'malformed') return { requests, open: { ...head, body: '' }, malformed: true };
    if (body === 'more') return { requests, open: { ...head, body: '' }, malformed: false };
    requests.push({ ...head, body: body.text });
    rest = rest.slice(end + 4 + body.length);
  }
}

function readHead(text: string): Omit<ReadRequest, 'body'> | undefined {
  const [first, ...lines] = text.split('\r\n');
  const line = LINE.exec(first ?? '');
  const fields = lines.map((each) => FIELD.exec(each));
  if (!line || fields.includes(null)) return undefined;
  return {
    method: line[1] ?? '',
    target: line[2] ?? '',
    fields: fields.map(
      (field) => [(field?.[1] ?? '').toLowerCase(), (field?.[2] ?? '').replace(/[ \t]+$/, '')] as const,
    ),
  };
}

function readBody(
  fields: ReadRequest['fields'],
  rest: string,
): 'more' | 'malformed' | { readonly text: string; readonly length: number } {
  const lengths = fields.filter(([name]) => name === 'content-length').map(([, value]) => value);
  const encodings = fields.filter(([name]) => name === 'transfer-encoding').map(([, value]) => value.toLowerCase());
  if (lengths.length + encodings.length > 1) return 'malformed';
  if (encodings.length === 1) return encodings[0] === 'chunked' ? readChunks(rest) : 'malformed';
  if (lengths.length === 0) return { text: '', length: 0 };
  if (!/^[0-9]{1,15}$/.test(lengths[0] ?? '')) return 'malformed';
  const length = Number(lengths[0]);
  return rest.length < length ? 'more' : { text: rest.slice(0, length), length };
}

function readChunks(rest: string): ReturnType<typeof readBody> {
  let text = '';
  let at = 0;
  for (;;) {
    const line = /^([0-9A-Fa-f]{1,13})(;[\t\u0020-\u007e\u0080-\u00ff]*)?\r\n/.exec(rest.slice(at));
    if (!line) return /\n/.test(rest.slice(at)) ? 'malformed' : 'more';
    const size = Number.parseInt(line[1] ?? '', 16);
    at += line[0].length;
    if (size === 0) break;
    if (rest.length < at + size + 2) return 'more';
    if (rest.slice(at + size, at + size + 2) !== '\r\n') return 'malformed';
    text += rest.slice(at, at + size);
    at += size + 2;
  }
  const trailers = /^(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\u0020-\u007e\u0080-\u00ff]*\r\n)*\r\n/.exec(rest.slice(at));
  if (!trailers) return /\r\n\r\n/.test(rest.slice(at)) ? 'malformed' : 'more';
  return { text, length: at + trailers[0].length };
}

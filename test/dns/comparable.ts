/** Records as a set, without case, serials or TTLs that have begun to run down. */
export function comparable(records: readonly string[]): readonly string[] {
  return records
    .map((record) => {
      const low = record.toLowerCase().replaceAll('"', '');
      const [owner = '', ttl = '', klass = '', type = '', ...data] = low.split(/\s+/);
      const seconds = ttl.startsWith('~') || /^(2[0-9]|30)$/.test(ttl) ? '~30' : ttl;
      if (type === 'soa') data[2] = '*';
      return [owner, seconds, klass, type, ...data].join(' ');
    })
    .toSorted();
}

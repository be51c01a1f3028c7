declare const portBrand: unique symbol;

/** A transport port, 1 to 65535. */
export type Port = number & { readonly [portBrand]: 'Port' };

/** The number as a Port, or undefined when it is not a whole number from 1 to 65535. */
export function toPort(value: number): Port | undefined {
  return Number.isInteger(value) && value >= 1 && value <= 65535 ? (value as Port) : undefined;
}

/** Parses decimal digits, nothing else (no sign, no space). */
export function parsePort(text: string): Port | undefined {
  return /^[0-9]{1,5}$/.test(text) ? toPort(Number(text)) : undefined;
}

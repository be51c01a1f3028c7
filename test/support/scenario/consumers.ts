// Every consumer, in the order of the data's way.

import type { Consumer } from './consumer.ts';
import { dnsConsumer } from './dns.ts';
import { httpConsumer } from './http.ts';
import { intentConsumer } from './intent.ts';
import { iptablesConsumer } from './iptables.ts';
import { kernelConsumer, kernelIptablesConsumer } from './kernel.ts';
import { modelConsumer } from './model.ts';
import { nftablesConsumer } from './nftables.ts';
import { userspaceConsumer } from './userspace.ts';

export const CONSUMERS: readonly Consumer[] = [
  modelConsumer,
  intentConsumer,
  nftablesConsumer,
  iptablesConsumer,
  userspaceConsumer,
  kernelConsumer,
  kernelIptablesConsumer,
  dnsConsumer,
  httpConsumer,
];

/** Backends that the design names and that are not built yet. */
export const CONSUMERS_TO_COME: readonly string[] = ['ipvs'];

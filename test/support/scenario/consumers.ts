// Every consumer, in the order of the data's way.

import type { Consumer } from './consumer.ts';
import { dnsConsumer } from './dns.ts';
import { httpConsumer } from './http.ts';
import { intentConsumer } from './intent.ts';
import { iptablesConsumer } from './iptables.ts';
import { ipvsConsumer } from './ipvs.ts';
import { kernelConsumer, kernelIptablesConsumer, kernelIpvsConsumer } from './kernel.ts';
import { modelConsumer } from './model.ts';
import { nftablesConsumer } from './nftables.ts';
import { userspaceConsumer } from './userspace.ts';

export const CONSUMERS: readonly Consumer[] = [
  modelConsumer,
  intentConsumer,
  nftablesConsumer,
  iptablesConsumer,
  ipvsConsumer,
  userspaceConsumer,
  kernelConsumer,
  kernelIptablesConsumer,
  kernelIpvsConsumer,
  dnsConsumer,
  httpConsumer,
];

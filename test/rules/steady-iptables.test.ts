import { steadyCases } from '../support/steady-cases.ts';

steadyCases('iptables', ({ topology }) => topology.node.run('iptables', '-t', 'nat', '-F'));

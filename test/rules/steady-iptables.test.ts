import { steadyCases } from '../support/steady-cases.ts';

steadyCases('iptables', ({ topology }) => topology.node.run('sh', '-c', 'iptables -F && iptables -t nat -F'));

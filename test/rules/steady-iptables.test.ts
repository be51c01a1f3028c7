import { steadyCases } from '../support/steady-cases.ts';

steadyCases('iptables', async ({ topology: { node } }) => {
  for (const tool of ['iptables', 'ip6tables']) {
    for (const table of ['nat', 'filter', 'mangle']) {
      await node.run(tool, '-t', table, '-F');
      await node.run(tool, '-t', table, '-X');
    }
  }
});

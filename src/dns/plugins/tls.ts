// tls: the certificate of a tls:// or https:// block.

import { messageOf } from '../../lib/message-of.ts';
import type { BlockDoors, PluginDefinition } from '../block.ts';
import { CorefileError, type Place } from '../corefile/error.ts';
import { count, notBuilt, unknownOption } from '../corefile/words.ts';
import { CLIENT_AUTH, contextOptions, type ClientAuth, type TlsSetting } from '../tls-setting.ts';

/** Certificates are renewed in place: how often the files are looked at. */
const LOOK_MS = 30_000;

interface Paths {
  readonly certificate: string;
  readonly key: string;
  readonly ca: string | undefined;
}

export const tls: PluginDefinition = {
  name: 'tls',
  once: true,
  setup: async ({ args, options, place }, draft) => {
    if (args[0] === 'acme') throw notBuilt('tls', '"acme"', place);
    count(args, place, 'tls', 2, 3);
    const [certificate = '', key = '', ca] = args.map((name) => draft.doors.pathOf(name, place));
    const paths: Paths = { certificate, key, ca };
    let clientAuth: ClientAuth = 'nocert';
    for (const option of options) {
      if (option.name !== 'client_auth') throw unknownOption('tls', option.name, option.place, ['client_auth']);
      count(option.args, option.place, 'client_auth', 1);
      const known = CLIENT_AUTH.find((one) => one === option.args[0]);
      if (!known)
        throw new CorefileError(option.place, `client_auth is ${CLIENT_AUTH.join(', ')}; not "${option.args[0]}"`);
      clientAuth = known;
    }
    draft.tls = await checked(await readSetting(paths, clientAuth, draft.doors.readText, place), place);
    draft.tasks.push(async ({ clock, stopped, readText, log, changed }) => {
      let refused = '';
      while (!stopped.aborted) {
        await clock.sleep(LOOK_MS, stopped);
        if (stopped.aborted) return;
        try {
          const now = await readSetting(paths, clientAuth, readText, place);
          if (now.certificate === draft.tls?.certificate && now.key === draft.tls.key && now.ca === draft.tls.ca)
            continue;
          draft.tls = await checked(now, place);
          changed();
          log.info('the certificate has changed and is in force', { file: certificate });
          refused = '';
        } catch (error) {
          const why = messageOf(error);
          if (why !== refused) log.error(`the certificate has changed and cannot be taken; the old one stays. ${why}`);
          refused = why;
        }
      }
    });
  },
};

async function readSetting(
  paths: Paths,
  clientAuth: ClientAuth,
  readText: BlockDoors['readText'],
  place: Place,
): Promise<TlsSetting> {
  const read = async (path: string): Promise<string> => {
    const text = await readText(path);
    if (text === undefined) throw new CorefileError(place, `tls: cannot read ${path}`);
    return text;
  };
  return {
    certificate: await read(paths.certificate),
    key: await read(paths.key),
    ca: paths.ca === undefined ? undefined : await read(paths.ca),
    clientAuth,
  };
}

/** Throws a CorefileError for what is no certificate, or not that of the key. */
async function checked(setting: TlsSetting, place: Place): Promise<TlsSetting> {
  const { createSecureContext } = await import('node:tls');
  try {
    createSecureContext(contextOptions(setting));
    return setting;
  } catch (error) {
    throw new CorefileError(place, `tls: certificate and key cannot be used: ${messageOf(error)}`);
  }
}

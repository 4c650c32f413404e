import { readFileSync } from 'node:fs';
import type { ServerOptions } from 'node:https';
import type { Clock } from '../../shared/clock.js';
import { AtelierError, messageOf } from '../../shared/errors.js';
import { ensureServerCertificate, pinOf, readKeyPair, type KeyPair } from './certificates.js';
import type { ClusterFolder } from './cluster-folder.js';

/** How often files are looked at for a new certificate. */
const RELOAD_INTERVAL_MS = 60_000;

/** What a TLS server is started with, and again whenever a file has changed. */
export type TlsContext = Pick<ServerOptions, 'cert' | 'key' | 'ca'>;

export type CertificateSource =
  /** Made and renewed by us, signed by the cluster's CA. */
  | { readonly kind: 'cluster'; readonly folder: ClusterFolder; readonly names: readonly string[] }
  /** Somebody else's: `--tls-cert`, `--tls-key`. */
  | { readonly kind: 'files'; readonly certificate: string; readonly key: string };

interface Current {
  readonly pair: KeyPair;
  readonly clientAuthority: string | null;
}

/** Who the coordinator is to its workers, kept up to date while it runs. */
export class TlsIdentity {
  private readonly source: CertificateSource;
  private readonly clientAuthority: string | null;
  private readonly clock: Clock;
  private current: Current;

  private constructor(
    source: CertificateSource,
    clientAuthority: string | null,
    clock: Clock,
    current: Current,
  ) {
    this.source = source;
    this.clientAuthority = clientAuthority;
    this.clock = clock;
    this.current = current;
  }

  /**
   * @param clientAuthority file with the CAs of client certificates: clients without one are refused (mutual TLS)
   * @throws AtelierError `usage` when a file cannot be read
   */
  static async load(
    source: CertificateSource,
    clientAuthority: string | null,
    clock: Clock,
  ): Promise<TlsIdentity> {
    return new TlsIdentity(source, clientAuthority, clock, await read(source, clientAuthority, clock));
  }

  get context(): TlsContext {
    const { pair, clientAuthority } = this.current;
    return {
      cert: pair.certificate,
      key: pair.key,
      ...(clientAuthority === null ? {} : { ca: clientAuthority }),
    };
  }

  get wantsClientCertificate(): boolean {
    return this.clientAuthority !== null;
  }

  /** What a join token must pin; null for a certificate that is checked as browsers do. */
  get pin(): string | null {
    if (this.source.kind === 'files') return null;
    return pinOf(readFileSync(this.source.folder.caCertificate, 'utf8'));
  }

  /** What the workers that the coordinator starts itself pin: the last certificate it shows. */
  get localPin(): string {
    const [last = ''] =
      this.current.pair.certificate.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\s*$/) ??
      [];
    return pinOf(last);
  }

  /**
   * Looks for new certificates from time to time. One that cannot be used is reported, and the old one kept.
   * @returns a function that stops it
   */
  watch(onChange: (context: TlsContext) => void, onTrouble: (message: string) => void): () => void {
    let cancel: () => void = () => undefined;
    let stopped = false;
    const look = async (): Promise<void> => {
      try {
        const fresh = await read(this.source, this.clientAuthority, this.clock);
        if (JSON.stringify(fresh) !== JSON.stringify(this.current)) {
          this.current = fresh;
          onChange(this.context);
        }
      } catch (error) {
        onTrouble(`the TLS certificate was not reloaded: ${messageOf(error)}`);
      }
      if (!stopped) cancel = this.clock.after(RELOAD_INTERVAL_MS, () => void look());
    };
    cancel = this.clock.after(RELOAD_INTERVAL_MS, () => void look());
    return () => {
      stopped = true;
      cancel();
    };
  }
}

async function read(
  source: CertificateSource,
  clientAuthority: string | null,
  clock: Clock,
): Promise<Current> {
  const pair =
    source.kind === 'files'
      ? readKeyPair(source.certificate, source.key)
      : await ensureServerCertificate(source.folder, source.names, clock.now());
  return { pair, clientAuthority: clientAuthority === null ? null : readPem(clientAuthority) };
}

function readPem(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new AtelierError('usage', `--tls-client-ca ${file}: ${messageOf(cause)}`, { cause });
  }
}

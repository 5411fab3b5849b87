// Which hub is asked, and with whose rights.

import { UsageError } from "../errors.ts";

/**
 * The address of a hub, without a slash at its end.
 *
 * @throws {UsageError} If it is not one
 */
export function checkedEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url && /^https?:$/.test(url.protocol) && url.search === "" && url.hash === "") {
    return text.replace(/\/+$/, "");
  }
  throw new UsageError(`Cannot use ${text} as a hub`, { help: "--endpoint takes https://HOST" });
}

/**
 * A token fit for a header, or undefined where there is none. No message repeats it.
 *
 * @throws {UsageError} If it has characters that no token has, or would travel unencrypted
 */
export function checkedToken(token: string | undefined, endpoint: string): string | undefined {
  if (!token) return undefined;
  if (!/^[\x21-\x7e]+$/.test(token)) {
    throw new UsageError("Cannot use the token: it has spaces or other characters no token has", {
      help: "set HF_TOKEN to the token alone",
    });
  }
  const { protocol, hostname } = new URL(endpoint);
  const loopback = hostname === "localhost" || /^(127(\.\d+){3}|\[::1\])$/.test(hostname);
  if (protocol === "https:" || loopback) return token;
  throw new UsageError(`Cannot send the token to ${endpoint}: the connection is not encrypted`, {
    help: "use https, or unset HF_TOKEN",
  });
}

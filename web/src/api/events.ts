import type { ServerEvent } from "./types";

export interface Listener {
  received(event: ServerEvent): void;
  /** Connected, for the first time or again after the server was away: what happened in between is unknown. */
  connected(): void;
  lost(): void;
}

const RETRY_MS = 2000;

/** Listens to the server's events for as long as the page is open, and connects again after a restart. */
export function listen(listener: Listener, url = "/api/events"): void {
  const source = new EventSource(url);
  source.onopen = () => listener.connected();
  source.onmessage = (message: MessageEvent<string>) => listener.received(JSON.parse(message.data) as ServerEvent);
  source.onerror = () => {
    listener.lost();
    // The browser retries by itself unless the answer was an error; then the source is closed.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(listener, url), RETRY_MS);
  };
}

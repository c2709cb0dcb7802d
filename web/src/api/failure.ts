/** A request that failed: the server's sentence and hint, or that it cannot be reached (status 0). */
export class Failure extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint: string = "",
    /** The server's whole answer. */
    readonly body: Readonly<Record<string, unknown>> = {},
  ) {
    super(message);
  }

  get unreachable(): boolean {
    return this.status === 0;
  }

  /** Whether the same request may succeed later: no server, a restart, a full disk. */
  get passing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

export async function failureOf(response: Response): Promise<Failure> {
  let body: Record<string, unknown> = {};
  try {
    body = (await response.json()) as Record<string, unknown>;
  } catch {
    // Not JSON, for example from a proxy in between: the status says what is known.
  }
  const text = (key: string): string => (typeof body[key] === "string" ? (body[key] as string) : "");
  return new Failure(response.status, text("message") || `${response.status} ${response.statusText}`, text("hint"), body);
}

import { CLIENT } from "../api/client";
import type { Journal, Unsaved } from "./outbox";

const STORE = "unsaved";
/** Where tabs cannot be asked whether they are alive, strokes that have waited so long are taken for those of a closed one. */
const ABANDONED_MS = 60_000;

/** Unsaved strokes in the browser's IndexedDB, one database a folder of annotations. */
export async function openJournal(folder: string): Promise<Journal> {
  holdLock();
  try {
    return new DatabaseJournal(await open(`frugalseg ${folder}`));
  } catch {
    // Private windows may forbid databases. Strokes then only survive while the tab is open, as the browser says on leaving.
    return { put: async () => {}, remove: async () => {}, left: async () => [] };
  }
}

function open(name: string): Promise<IDBDatabase> {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "key" });
  return done(request);
}

class DatabaseJournal implements Journal {
  constructor(private readonly database: IDBDatabase) {}

  async put(entry: Unsaved): Promise<void> {
    await done(this.store("readwrite").put(entry));
  }

  async remove(key: string): Promise<void> {
    await done(this.store("readwrite").delete(key));
  }

  async left(): Promise<Unsaved[]> {
    const entries = await done(this.store("readonly").getAll() as IDBRequest<Unsaved[]>);
    const alive = await tabsAlive();
    return entries.filter((entry) => (alive === null ? Date.now() - entry.at > ABANDONED_MS : !alive.has(entry.key.split(" ")[0]!)));
  }

  private store(mode: IDBTransactionMode): IDBObjectStore {
    return this.database.transaction(STORE, mode).objectStore(STORE);
  }
}

/** Holds a lock as long as this tab lives, by which other tabs know that its strokes are its own. */
function holdLock(): void {
  void navigator.locks?.request(lockOf(CLIENT), () => new Promise(() => undefined));
}

/** The tabs that are open; null where the browser does not say, as on pages over HTTP from another machine. */
async function tabsAlive(): Promise<Set<string> | null> {
  // Its type says that it is always there; outside of secure contexts it is not.
  const locks = navigator.locks as LockManager | undefined;
  if (locks === undefined) return null;
  const held = (await locks.query()).held ?? [];
  return new Set(held.flatMap(({ name }) => (name?.startsWith(lockOf("")) === true ? [name.slice(lockOf("").length)] : [])));
}

function lockOf(client: string): string {
  return `frugalseg tab ${client}`;
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

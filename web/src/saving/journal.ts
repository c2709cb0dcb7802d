import type { Journal, Unsaved } from "./outbox";

const STORE = "unsaved";

/** Unsaved strokes in the browser's IndexedDB, one database a folder of annotations. */
export async function openJournal(folder: string): Promise<Journal> {
  try {
    return new DatabaseJournal(await open(`frugalseg ${folder}`));
  } catch {
    // Private windows may forbid databases. Strokes then only survive while the tab is open, as the page says on leaving.
    return { put: async () => {}, remove: async () => {}, all: async () => [] };
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

  async remove(key: number): Promise<void> {
    await done(this.store("readwrite").delete(key));
  }

  all(): Promise<Unsaved[]> {
    return done(this.store("readonly").getAll() as IDBRequest<Unsaved[]>);
  }

  private store(mode: IDBTransactionMode): IDBObjectStore {
    return this.database.transaction(STORE, mode).objectStore(STORE);
  }
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { ResourceError } from "../../lib/errors.ts";
import { recordFault, writingRecord } from "../../lib/study/record_fault.ts";

Deno.test("writingRecord() tells a full database, by a statement or by exec, as exit 4 naming the run", () => {
  const db = new DatabaseSync(":memory:");
  db.exec("PRAGMA max_page_count = 3; CREATE TABLE a (x)");
  const insert = db.prepare("INSERT INTO a VALUES (?)");
  const fills = [
    () => insert.run("x".repeat(1e5)),
    () => db.exec(`INSERT INTO a VALUES ('${"x".repeat(1e5)}')`),
  ];
  for (const fill of fills) {
    assert.throws(() => writingRecord("runs/a/b/seed-0", fill), (error) => {
      assert.ok(error instanceof ResourceError, String(error));
      assert.equal(
        error.message,
        "Cannot write the record of runs/a/b/seed-0: database or disk is full",
      );
      assert.equal(error.exitCode, 4);
      return true;
    });
  }
  db.close();
});

Deno.test("recordFault() leaves errors that are none of the disk as they are", () => {
  for (const error of [new TypeError("x"), new ResourceError("disk is full"), "text", undefined]) {
    assert.equal(recordFault("run", error), error);
  }
  const full = Object.assign(new Error("No space left on device (os error 28)"), {
    code: "ENOSPC",
  });
  assert.ok(recordFault("run", full) instanceof ResourceError);
});

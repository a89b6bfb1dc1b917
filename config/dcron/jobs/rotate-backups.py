"""Pretends to keep the newest backups: reads its task, reports progress, leaves outputs."""

import json
import os
import sys

task = json.load(sys.stdin)
keep = int(sys.argv[sys.argv.index("--keep") + 1])
backups = [f"{task['organization']}-{number:03}" for number in range(keep + 3)]
for done, backup in enumerate(backups, start=1):
    print(f"::progress {done}/{len(backups)} {backup}", flush=True)
print(f"for {task['scheduled_for']}: kept {keep}, removed {len(backups) - keep}")
with open(os.environ["MUSTER_TASK_OUTPUTS"], "w", encoding="utf-8") as outputs:
    json.dump({"kept": keep, "removed": backups[keep:]}, outputs)

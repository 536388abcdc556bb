"""What the tasks call: open the collaborators, run the steps, record and publish what came of it."""

"""The steps of Levier's life-cycle operations: each a function that ensures a state, with its undo beside it.

Adding a step: write one function below the subject it belongs to, decorate it with `@step`, and put it in its place in
`sequences.py`. The saga's fault tests pick it up from there.
"""

"""The recurrence in Triton: one program a tile of rows of one order, the state in registers over all steps."""

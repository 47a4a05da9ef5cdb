"""Requirements of planning systems on RT Structure Sets."""

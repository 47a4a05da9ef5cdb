"""Objects made anew from a result that was kept, without what a person leaves out."""

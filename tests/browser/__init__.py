"""The pages in a real browser: headless Chromium of the system, by Playwright."""

"""How adlib's own backbone is made: pictures by formula, a student, tasks to learn, and judges.  No part of the app."""

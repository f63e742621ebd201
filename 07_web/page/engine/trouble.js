// Trouble: what a person should be told, in one sentence. Any other error is a defect of ours.

export class Trouble extends Error {}

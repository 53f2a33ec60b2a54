[
  inputs: ["{mix,.formatter}.exs", "{mix,lib,test}/**/*.{ex,exs}"]
]

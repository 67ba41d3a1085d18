// A small gym in the test's output folder: eight made-up tasks, two draws each. Deliberately no real data.
using System.Text;
using IptNative.Tuning.Experiments;

namespace IptNative.Tuning.Tests.Experiments;

internal sealed class FakeGym : IDisposable
{
    public const int Draw = 13, OtherDraw = 21, ThirdDraw = 42;
    public static readonly string[] Train = ["colour", "shape", "size", "count", "reverse", "first"];
    public static readonly string[] Test = ["taste", "last"];

    private static readonly string[] Classification = ["colour", "shape", "size", "taste"];

    public FakeGym(string name)
    {
        Folder = Path.Combine(AppContext.BaseDirectory, "experiment-tests", name);
        if (Directory.Exists(Folder)) Directory.Delete(Folder, recursive: true);
        Directory.CreateDirectory(Gym);
        var gym = new StringBuilder("{");
        foreach (string task in Train.Concat(Test))
        {
            bool cls = Classification.Contains(task);
            gym.Append(gym.Length > 1 ? "," : "").Append($"\"{task}\":{{\"type\":\"{(cls ? "cls" : "noncls")}\",\"k\":4,\"labels\":{(cls ? "[\"yes\",\"no\"]" : "null")},\"metric\":\"ACC\"}}");
            Directory.CreateDirectory(Path.Combine(Gym, task));
            foreach (int draw in (int[])[Draw, OtherDraw, ThirdDraw])
            {
                WriteLines(task, draw, "train", 8, cls);
                WriteLines(task, draw, "dev", 8, cls);
            }
            WriteLines(task, Draw, "test", 20, cls);
        }
        File.WriteAllText(Path.Combine(Gym, "gym.json"), gym.Append('}').ToString());
    }

    public string Folder { get; }

    public string Gym => Path.Combine(Folder, "gym");

    public string Out => Path.Combine(Folder, "out");

    public ExperimentModel Model { get; } = new(new string('a', 64), 8);

    public ExperimentConfig Config(string more = "", params string[] overrides) => ExperimentConfig.Parse($$"""
        {
          "model": "model", "output": "out",
          "data": { "folder": "gym", "draw": {{Draw}}, "other_draw": {{OtherDraw}} },
          "split": { "train": [{{Quoted(Train)}}], "test": [{{Quoted(Test)}}] },
          "seeds": [0, 1], "d_i": [2, 5], "side_by_side": 6,
          "prompt_tuning": { "prompt": { "length": 4 }, "training": { "steps": 20, "batch_size": 4, "eval_every": 10 } },
          "msf": { "training": { "steps": 30, "batch_size": 8, "eval_every": 10 }, "optimizer": { "warmup_steps": 2 } },
          "ist": { "training": { "steps": 20, "batch_size": 4, "eval_every": 10 }, "optimizer": { "warmup_steps": 2 } }
          {{(more.Length > 0 ? "," + more : "")}}
        }
        """, "experiment.json", Folder, overrides);

    public (ExperimentPlan Plan, ExperimentData Data) Plan(ExperimentConfig config)
    {
        ExperimentData data = ExperimentData.Open(config.Data);
        return (ExperimentPlan.Build(config, data, Model), data);
    }

    public void Dispose()
    {
        // Kept: the reports are worth a look, and the next run starts by deleting them.
    }

    private void WriteLines(string task, int draw, string split, int count, bool cls)
    {
        var text = new StringBuilder();
        for (int i = 0; i < count; i++) text.Append($"{task} {split} {draw * (split == "test" ? 1 : 100)} number {i}\t{(cls ? i % 2 == 0 ? "yes" : "no" : $"answer {i % 7}")}\n");
        File.WriteAllText(Path.Combine(Gym, task, $"{task}_4_{draw}_{split}.tsv"), text.ToString());
    }

    private static string Quoted(IEnumerable<string> names) => string.Join(", ", names.Select(n => $"\"{n}\""));
}

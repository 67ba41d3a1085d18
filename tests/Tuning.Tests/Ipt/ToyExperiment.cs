// Two training tasks and a held-out one on the shipped model, a few steps each: enough for every kind of job, little enough for seconds.
using IptNative.Tuning.Experiments;
using IptNative.Tuning.Ipt;

namespace IptNative.Tuning.Tests.Ipt;

internal sealed class ToyExperiment : IDisposable
{
    public ToyExperiment(string name, string more = "", params string[] overrides)
    {
        Folder = Path.Combine(AppContext.BaseDirectory, "ipt-tests", name);
        if (Directory.Exists(Folder)) Directory.Delete(Folder, recursive: true);
        Directory.CreateDirectory(Folder);
        Config = ExperimentConfig.Parse($$"""
            {
              "model": "{{Json(TinyModel.Folder)}}", "output": "out", "threads": 2,
              "data": { "folder": "{{Json(TinyModel.Gym)}}", "draw": 13, "other_draw": 21, "dev_lines": 3, "test_lines": 5 },
              "split": { "train": ["words-first", "words-last"], "test": ["words-second"] },
              "seeds": [0, 1], "d_i": [2],
              "prompt_tuning": { "prompt": { "length": 3, "init": "vocab" }, "optimizer": { "name": "adamw", "learning_rate": 0.05 }, "training": { "steps": 6, "batch_size": 3, "eval_every": 3, "max_source_length": 32, "max_target_length": 8 } },
              "msf": { "d_inner": 5, "optimizer": { "name": "adamw", "learning_rate": 0.01, "schedule": "linear_decay", "warmup_steps": 1 }, "training": { "steps": 6, "batch_size": 4, "eval_every": 3, "max_source_length": 32, "max_target_length": 8 } },
              "ist": { "optimizer": { "name": "adamw", "learning_rate": 0.1, "schedule": "constant", "warmup_steps": 0 }, "training": { "steps": 5, "batch_size": 3, "eval_every": 3, "max_source_length": 32, "max_target_length": 8 } },
              "challenges": { "other_data_reference": "same_draw" }
              {{(more.Length > 0 ? "," + more : "")}}
            }
            """, "toy.json", Folder, overrides);
        Data = ExperimentData.Open(Config.Data);
        Plan = ExperimentPlan.Build(Config, Data, ExperimentModel.Read(Config.Model));
    }

    public string Folder { get; }

    public ExperimentConfig Config { get; }

    public ExperimentData Data { get; }

    public ExperimentPlan Plan { get; }

    /// <summary>Runs what is left; stops after so many reports of progress, where a number is given.</summary>
    /// <returns>Whether everything is done.</returns>
    public bool Run(int? stopAfter = null)
    {
        int reports = 0;
        return Run(_ => ++reports == stopAfter);
    }

    /// <summary>Runs what is left, or until a report of progress that says so.</summary>
    /// <returns>Whether everything is done.</returns>
    public bool Run(Func<ExperimentProgress, bool> stops)
    {
        using JobStore store = JobStore.Open(Config.Output);
        using IJobRunner runner = IptRunner.Create(Config, Data);
        using var stop = new CancellationTokenSource();
        try
        {
            ExperimentRun.Execute(Plan, store, runner, p => { if (stops(p)) stop.Cancel(); }, stop.Token);
            return true;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    /// <summary>Every result's bytes by its place, times left out.</summary>
    public SortedDictionary<string, byte[]> Results()
    {
        string jobs = Path.Combine(Config.Output, "jobs");
        return new SortedDictionary<string, byte[]>(Directory.GetFiles(jobs, "*", SearchOption.AllDirectories).Where(f => Path.GetFileName(f) != "timings.json").ToDictionary(f => Path.GetRelativePath(jobs, f), File.ReadAllBytes), StringComparer.Ordinal);
    }

    /// <summary>A job's result.</summary>
    public JobResult Result(string key)
    {
        using JobStore store = JobStore.Open(Config.Output);
        return (store.Find(Plan[key]) ?? throw new InvalidOperationException($"{key} is not done.")).Result;
    }

    public void Dispose() => Directory.Delete(Folder, recursive: true);

    private static string Json(string path) => path.Replace('\\', '/');
}

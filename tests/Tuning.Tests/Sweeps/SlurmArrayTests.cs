using IptNative.Tuning.Sweeps;
using Xunit;

namespace IptNative.Tuning.Tests.Sweeps;

/// <summary>What Slurm is told, with programs of our own in its place; the real one: tests/Slurm/check.sh.</summary>
public sealed class SlurmArrayTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-slurm-").FullName;
    private readonly List<string> _calls = [];
    private readonly Dictionary<string, SlurmReply> _replies = new() { ["sbatch"] = new(0, "17\n", ""), ["squeue"] = new(0, "", "") };

    private string At(string name) => Path.Combine(_folder, name);

    private SweepPlan Plan(int points = 5)
    {
        File.WriteAllText(At("run.json"), $$"""
            { "model": "{{TinyModel.Folder.Replace('\\', '/')}}", "tasks": [{ "name": "words-first", "data": "{{TinyModel.Gym.Replace('\\', '/')}}" }], "training": { "steps": 3 } }
            """);
        File.WriteAllText(At("a sweep.json"), $$"""{ "run": "run.json", "grid": { "prompt.length": [{{string.Join(", ", Enumerable.Range(1, points))}}] } }""");
        return SweepPlan.Load(At("a sweep.json"), At("out"), []);
    }

    private SlurmArray Array(SweepPlan plan, int? shards = null, bool wait = false) =>
        new(plan, new SlurmOptions { Command = ["ipt native", "sweep", "it's"], WorkingFolder = _folder, Shards = shards, Sbatch = ["--partition=short"], Wait = wait }, Run);

    private SlurmReply Run(string program, IReadOnlyList<string> arguments, Action<string>? line, CancellationToken cancel)
    {
        _calls.Add($"{program} {string.Join(' ', arguments)}");
        SlurmReply reply = _replies[program];
        foreach (string text in reply.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            line?.Invoke(text);
        return reply;
    }

    private static void Done(SweepPlan plan, params int[] points) => SweepRun.Execute(plan, SweepShard.Whole, p =>
    {
        if (!points.Contains(p.Index))
            throw new OperationCanceledException();
        Directory.CreateDirectory(p.Config.Output);
        File.WriteAllText(Path.Combine(p.Config.Output, "result.json"), """{ "summary": [ { "task": "words-first", "split": "test", "mean": 0.5, "std": null, "runs": 1 } ] }""");
    }, _ => { }, CancellationToken.None);

    [Fact]
    public void TheScriptHasOneShardATaskAndNoWordIsTakenApart()
    {
        SlurmSubmission? told = null;
        SlurmSubmission made = Array(Plan()).Submit(s => told = s, TestContext.Current.CancellationToken);
        Assert.Equal((made, "17", "1-5"), (told, made.Job, made.Tasks));
        Assert.Equal([$"sbatch --parsable --partition=short {made.Script}"], _calls);
        string[] script = File.ReadAllLines(made.Script);
        Assert.Equal("#!/bin/bash", script[0]);
        Assert.Contains("#SBATCH --job-name=a-sweep", script);
        Assert.Contains("#SBATCH --array=1-5", script);
        Assert.Contains("#SBATCH --requeue", script);
        Assert.Contains($"#SBATCH --chdir=\"{_folder}\"", script);
        Assert.Contains($"#SBATCH --output=\"{Path.Combine(_folder, "out", "slurm", "%A_%a.log")}\"", script);
        Assert.Equal("""exec 'ipt native' sweep 'it'\''s' --shard "$SLURM_ARRAY_TASK_ID/5" $threads""", script[^1]);
    }

    [Fact]
    public void OnlyShardsWithSomethingToDoAreSubmitted()
    {
        SweepPlan plan = Plan(7);
        Assert.Throws<OperationCanceledException>(() => Done(plan, 0));
        Assert.Equal("2-7", Array(plan).Submit(_ => { }, TestContext.Current.CancellationToken).Tasks);
        // Points go round the shards: 0, 3, 6 are the first of three, so a point that is done takes no shard away while its shard has others.
        Assert.Equal("1-3", Array(plan, shards: 3).Submit(_ => { }, TestContext.Current.CancellationToken).Tasks);
        Assert.Throws<OperationCanceledException>(() => Done(plan, 0, 1, 2, 3));
        Assert.Equal("5-7", Array(plan).Submit(_ => { }, TestContext.Current.CancellationToken).Tasks);
        Done(plan, 0, 1, 2, 3, 4, 5, 6);
        _calls.Clear();
        Assert.Null(Array(plan).Submit(_ => Assert.Fail("nothing is submitted"), TestContext.Current.CancellationToken).Job);
        Assert.DoesNotContain(_calls, c => c.StartsWith("sbatch", StringComparison.Ordinal));
        Assert.Equal("", Array(plan).Script());
    }

    [Fact]
    public void ASweepIsNotSubmittedTwice()
    {
        SweepPlan plan = Plan();
        SlurmSubmission made = Array(plan).Submit(_ => { }, TestContext.Current.CancellationToken);
        _replies["squeue"] = new(0, $"{made.Script}|RUNNING\n{made.Script}|PENDING\n{made.Script}|PENDING\n", "");
        _calls.Clear();
        var e = Assert.Throws<InvalidOperationException>(() => Array(plan).Submit(_ => { }, TestContext.Current.CancellationToken));
        Assert.Contains("its job 17 is still in the queue (2 pending, 1 running), expected none. Wait for it, or end it by 'scancel 17'", e.Message, StringComparison.Ordinal);
        Assert.Equal(["squeue --noheader --array --jobs=17 --format=%o|%T"], _calls);
        // Another sweep's job of the same number (a new controller counts from 1), or one that Slurm has forgotten, is in nobody's way.
        _replies["squeue"] = new(0, "/elsewhere/job.sh|RUNNING\n", "");
        Array(plan).Submit(_ => { }, TestContext.Current.CancellationToken);
        _replies["squeue"] = new(1, "", "slurm_load_jobs error: Invalid job id specified\n");
        Array(plan).Submit(_ => { }, TestContext.Current.CancellationToken);
        // Slurm that does not answer is no empty queue.
        _replies["squeue"] = new(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n");
        Assert.Contains("squeue ended with 1: slurm_load_jobs error: Unable to contact slurm controller (connect failure). Nothing was submitted.",
            Assert.Throws<IOException>(() => Array(plan).Submit(_ => { }, TestContext.Current.CancellationToken)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void WhatSlurmRefusesIsSaidInItsWords()
    {
        _replies["sbatch"] = new(1, "", "sbatch: error: invalid partition specified: short\nsbatch: error: Batch job submission failed: Invalid partition name specified\n");
        Assert.Contains("sbatch ended with 1: sbatch: error: invalid partition specified: short; sbatch: error: Batch job submission failed: Invalid partition name specified. Change the options (--sbatch)",
            Assert.Throws<IOException>(() => Array(Plan()).Submit(_ => { }, TestContext.Current.CancellationToken)).Message, StringComparison.Ordinal);
        Assert.False(File.Exists(At("out/slurm/job.json")));
        string missing = Assert.Throws<IOException>(() => SlurmPrograms.Run("no-such-sbatch", [], null, TestContext.Current.CancellationToken)).Message;
        Assert.Contains("Install Slurm's client programs", missing, StringComparison.Ordinal);
    }

    [Fact]
    public void WithWaitAFailedTaskIsNoRefusal()
    {
        _replies["sbatch"] = new(3, "18;cluster\n", "");
        SlurmSubmission made = Array(Plan(), wait: true).Submit(_ => { }, TestContext.Current.CancellationToken);
        Assert.Equal(("18", true), (made.Job, made.Failed));
        Assert.StartsWith("sbatch --wait --parsable ", _calls[^1], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(6)]
    public void MoreShardsThanPointsAreRefused(int shards) =>
        Assert.Contains($"shards is {shards}, expected 1 to 5", Assert.Throws<ArgumentException>(() => Array(Plan(), shards)).Message, StringComparison.Ordinal);

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}

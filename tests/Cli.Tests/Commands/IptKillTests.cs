using System.Diagnostics;
using Xunit;

namespace IptNative.Cli.Tests.Commands;

/// <summary>`ipt` as a process that somebody kills: no signal handler runs, no file is closed.</summary>
public sealed class IptKillTests
{
    private static readonly string[] Reports = ["report.html", "results.json", "scores.csv", "summaries.csv", "tasks.csv", "stability.csv", "coverage.csv"];

    private static readonly string Folder = Path.Combine(AppContext.BaseDirectory, "ipt-kill");

    // Far above what these runs take, on a machine that others use too.
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(15);

    // Every kind of job, two ablations, a baseline. A checkpoint is written at every evaluation: after each step of prompt tuning, after every second of the others.
    private const string Experiment = """
        {
          "model": "MODEL", "threads": 1,
          "data": { "folder": "GYM", "draw": 13, "other_draw": 21, "dev_lines": 2, "test_lines": 3 },
          "split": { "train": ["words-first", "words-last"], "test": ["words-second"] },
          "seeds": [0], "d_i": [2],
          "prompt_tuning": { "prompt": { "length": 3, "init": "vocab" }, "optimizer": { "name": "adamw", "learning_rate": 0.05 }, "training": { "steps": 16, "batch_size": 2, "eval_every": 1, "max_source_length": 32, "max_target_length": 4 } },
          "msf": { "d_inner": 5, "optimizer": { "name": "adamw", "learning_rate": 0.01, "schedule": "linear_decay", "warmup_steps": 1 }, "training": { "steps": 6, "batch_size": 4, "eval_every": 2, "max_source_length": 32, "max_target_length": 4 } },
          "ist": { "search": "SEARCH", "init_std": 0.5, "population": 2, "optimizer": { "name": "adamw", "learning_rate": 0.1, "schedule": "constant", "warmup_steps": 0 }, "training": { "steps": 6, "batch_size": 2, "eval_every": 2, "max_source_length": 32, "max_target_length": 4 } },
          "challenges": { "other_data_reference": "same_draw" },
          "baselines": { "fastfood": MORE },
          "ablations": { ABLATIONS }
        }
        """;

    [Theory]
    [InlineData("gradient", "\"shots_draw\": 42, \"stability_runs\": 2", "ist step 4/6")]
    [InlineData("cma_es", "", "ist turn 4/6")]
    public void KilledThreeTimesItWritesTheReportOfOneThatNeverWas(string search, string ablations, string last)
    {
        string folder = Path.Combine(Folder, search), whole = Path.Combine(folder, "whole"), killed = Path.Combine(folder, "killed"), file = Path.Combine(folder, "kill.json");
        if (Directory.Exists(folder)) Directory.Delete(folder, recursive: true);
        Directory.CreateDirectory(killed);
        File.WriteAllText(file, Experiment.Replace("MODEL", Json(CliProgram.Model), StringComparison.Ordinal)
            .Replace("GYM", Json(Path.Combine(CliProgram.Root, "examples", "gym")), StringComparison.Ordinal).Replace("SEARCH", search, StringComparison.Ordinal)
            .Replace("ABLATIONS", ablations, StringComparison.Ordinal).Replace("MORE", ablations.Length > 0 ? "true" : "false", StringComparison.Ordinal));
        Finish("ipt", file, "--out", whole);

        // Each goes on where the one before was killed: anywhere between this step and the next, a checkpoint is due then.
        foreach (string gate in (string[])["prompt_tuning step 5/16", "subspace step 4/6", last])
            GatedIpt.KillAt(gate, file, "--out", killed);
        Finish("ipt", file, "--out", killed);

        foreach (string report in Reports)
            Assert.Equal(File.ReadAllText(Path.Combine(whole, report)), File.ReadAllText(Path.Combine(killed, report)));
        // Not the report alone: every prompt, vector and subspace, to the last bit.
        SortedDictionary<string, byte[]> expected = Jobs(whole), found = Jobs(killed);
        Assert.True(expected.Count > 20, $"{expected.Count} files");
        Assert.Equal(expected.Keys, found.Keys);
        Assert.All(expected, job => Assert.True(job.Value.AsSpan().SequenceEqual(found[job.Key]), job.Key));
        Assert.Empty(Directory.GetFileSystemEntries(Path.Combine(killed, "working")));
    }

    private static void Finish(params string[] arguments)
    {
        using Process process = CliProgram.Start(arguments);
        Task<string> texts = process.StandardOutput.ReadToEndAsync(), errors = process.StandardError.ReadToEndAsync();
        process.StandardInput.Close();
        if (!process.WaitForExit(Limit))
        {
            process.Kill();
            process.WaitForExit();
        }
        Assert.True(process.ExitCode == 0, $"exit code {process.ExitCode}\n{texts.GetAwaiter().GetResult()}\n{errors.GetAwaiter().GetResult()}");
    }

    private static SortedDictionary<string, byte[]> Jobs(string output)
    {
        string jobs = Path.Combine(output, "jobs");
        return new SortedDictionary<string, byte[]>(Directory.GetFiles(jobs, "*", SearchOption.AllDirectories).Where(f => Path.GetFileName(f) != "timings.json").ToDictionary(f => Path.GetRelativePath(jobs, f), File.ReadAllBytes), StringComparer.Ordinal);
    }

    private static string Json(string path) => path.Replace('\\', '/');
}

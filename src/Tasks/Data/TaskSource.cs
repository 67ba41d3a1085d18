// Where a task's examples come from and what is known of them beforehand. Deliberately not the reading: see TaskData.
namespace IptNative.Tasks.Data;

/// <summary>Names a task's data; what is left out is looked for in gym.json, in the task's casting, or in the data itself.</summary>
public sealed record TaskSource
{
    /// <summary>Task name, as in gym.json or <see cref="Casting.TaskCasting.Names"/>; or the task's own folder where <see cref="Data"/> is left out.</summary>
    public required string Task { get; init; }

    /// <summary>
    /// Folder of a gym (with a folder per task), or of the task: CrossFit's files, or train, dev (or validation) and test as .tsv or .jsonl.
    /// Null where the files are named one by one, or <see cref="Task"/> is the folder.
    /// </summary>
    public string? Data { get; init; }

    /// <summary>Training examples by file; null to look in <see cref="Data"/>.</summary>
    public string? TrainFile { get; init; }

    /// <summary>Development examples by file.</summary>
    public string? DevFile { get; init; }

    /// <summary>Test examples by file.</summary>
    public string? TestFile { get; init; }

    /// <summary>
    /// K. Of CrossFit's files it picks those of this K. Of a full training file it draws K per label (classification) or K in all for training and as
    /// many for development, the lines that CrossFit would draw. Null takes what is there.
    /// </summary>
    public int? Shots { get; init; }

    /// <summary>Seed of the K-shot sample.</summary>
    public int Seed { get; init; } = 13;

    /// <summary>Template of the input for .jsonl; null where a casting is used.</summary>
    public string? InputTemplate { get; init; }

    /// <summary>Template of the answer for .jsonl.</summary>
    public string? TargetTemplate { get; init; }

    /// <summary>Known task that .jsonl records are cast as; null takes the casting of the task's name where there is one and no template is given.</summary>
    public string? Casting { get; init; }

    /// <summary>Metric names; empty takes gym.json's or the casting's.</summary>
    public IReadOnlyList<string> Metrics { get; init; } = [];

    /// <summary>Labels in class order; empty takes gym.json's, the casting's, or those of the training split.</summary>
    public IReadOnlyList<string> Labels { get; init; } = [];

    /// <summary>Whether answers are labels; null takes gym.json's word, or the casting's, or counts (<see cref="TaskData.IsClassification"/>).</summary>
    public bool? IsClassification { get; init; }
}
